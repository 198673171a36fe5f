#!/usr/bin/env node
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runScript } from './launch.js';

process.exitCode = await runScript(join(dirname(fileURLToPath(import.meta.url)), '../src/cli/main.ts'), process.argv.slice(2));
