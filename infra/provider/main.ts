/** pulumi-resource-kumulus: prints its port on standard output, as Pulumi wants, and everything else on standard error. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { kinds } from './kinds.ts';
import { Provider } from './provider.ts';
import { serveProvider } from './server.ts';

// Whatever a library prints must not be taken for the port.
console.log = console.error;
console.info = console.error;

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8'));
const provider = new Provider(kinds);
const server = await serveProvider(provider, version);
process.stdout.write(`${server.port}\n`);

const end = () => {
  provider.cancel();
  server.stop();
  process.exit(0);
};
// The engine asks with SIGINT first, and calls a plugin broken that has to be killed; a terminal's Ctrl-C does not come here,
// since the engine puts plugins into process groups of their own and passes it on as Cancel.
process.on('SIGTERM', end);
process.on('SIGINT', end);
process.on('unhandledRejection', (error) => console.error(error));

// An engine that was killed tells nobody; there is no event for a parent's end.
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) end();
}, 500).unref();
