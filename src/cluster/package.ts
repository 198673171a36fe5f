import { existsSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';

function find(): string {
  let directory = import.meta.dirname;
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

/** Where this package lies: the checkout, or its folder under node_modules. */
export const packageRoot = find();

/** Whether this is what was published: bundled JavaScript, all in one folder. */
export const bundled = extname(import.meta.filename) === '.js';

/** The file of a script of src/cluster: itself in a checkout, its bundle of the same name in what was published. */
export const scriptPath = (name: string): string => join(import.meta.dirname, `${name}${extname(import.meta.filename)}`);

/** What instances run, relative to the package. */
export const nodeModules = bundled ? ['dist/node.js'] : ['src/cli/node.ts', 'src/cluster/node.ts', 'bin/launch.js'];
