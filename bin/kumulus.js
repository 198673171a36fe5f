#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCommand } from './launch.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
// A checkout runs its TypeScript; what is published is bundled.
const source = join(root, 'src/cli/main.ts');
process.exitCode = await runCommand(existsSync(source) ? source : join(root, 'dist/main.js'), process.argv.slice(2));
