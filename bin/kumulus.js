#!/usr/bin/env node
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCommand } from './launch.js';

process.exitCode = await runCommand(join(dirname(fileURLToPath(import.meta.url)), '../src/cli/main.ts'), process.argv.slice(2));
