/** Holds the table "who may import whom" of docs/architecture.md. Prints each violation; exit code 1 where there is one. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';

const root = join(import.meta.dirname, '..');
const everything = ['*'];
/** Part → parts it may import (itself always; packages of npm and Node are checked below). */
const allowed: Record<string, string[]> = {
  api: [],
  store: [],
  apiserver: ['store', 'api', 'client'],
  client: ['api'],
  controllers: ['client', 'api'],
  scheduler: ['client', 'api', 'controllers'],
  cloud: ['client', 'api', 'controllers/controller', 'aws'],
  proxy: ['client', 'api', 'controllers/controller'],
  network: ['client', 'api', 'controllers/controller'],
  kubelet: ['client', 'api', 'runtime', 'network'],
  runtime: ['network'],
  aws: [],
  localaws: [],
  cluster: everything,
  cli: everything,
  sdk: everything,
  testing: everything,
  'index.ts': everything,
};
/** What the Pulumi package (infra/) may import of src/: AWS resources, and the words that instances and kubectl need. Never localaws. */
const allowedInInfra = ['aws', 'cluster/addons', 'cluster/kubeconfig', 'cluster/pki', 'cluster/user-data'];
/** Tests may start the real API server and runtimes to run against. */
const allowedInTests: Record<string, string[]> = {
  client: ['apiserver', 'store'],
  controllers: ['apiserver', 'store'],
  scheduler: ['apiserver', 'store', 'controllers'],
  cloud: ['apiserver', 'store', 'controllers', 'localaws'],
  kubelet: ['apiserver', 'store', 'controllers'],
  proxy: ['apiserver', 'store'],
  network: ['apiserver', 'store'],
};
/** Which parts may use the AWS SDK. */
const awsSdk = new Set(['aws', 'cloud', 'localaws', 'cluster', 'cli', 'sdk', 'testing']);

let failures = 0;
for (const file of globSync('src/**/*.ts', { cwd: root })) {
  const part = file.split('/')[1] as string;
  const mayImport = allowed[part];
  const isTest = /\.test\.ts$|\/testing(\/|\.ts$)|\.contract\.ts$/.test(file);
  const text = readFileSync(join(root, file), 'utf8');
  const fail = (what: string) => {
    failures++;
    console.error(`${file}: ${what}`);
  };
  // Node strips the types with a parser of its own, which reads some lines otherwise than the compiler.
  try {
    stripTypeScriptTypes(text);
  } catch (error) {
    fail(`Node cannot read it: ${(error as Error).message}`);
  }
  if (!mayImport) {
    fail(`src/${part} stands in no row of the table`);
    continue;
  }
  for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
    const target = match[1] as string;
    if (target.startsWith('.')) {
      const path = relative(join(root, 'src'), resolve(join(root, dirname(file)), target));
      const targetPart = path.split('/')[0] as string;
      if (targetPart === part || targetPart === '..') continue;
      const rules = [...mayImport, ...(isTest ? (allowedInTests[part] ?? []) : [])];
      if (!rules.includes('*') && !rules.some((r) => path === r || path.startsWith(`${r}/`) || path.startsWith(`${r}.`)))
        fail(`may not import ${path}`);
      else if (!existsSync(join(root, 'src', path))) fail(`imports ${path}, which does not exist`);
    } else if (target.startsWith('@aws-sdk/') && !awsSdk.has(part)) fail(`may not use ${target}`);
  }
}
for (const file of globSync('infra/**/*.ts', { cwd: root, exclude: (name) => name === 'node_modules' })) {
  if (/\.test\.ts$|\/testing\.ts$/.test(file)) continue;
  for (const match of readFileSync(join(root, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
    const path = relative(join(root, 'src'), resolve(join(root, dirname(file)), match[1] as string));
    if (path.startsWith('..') || allowedInInfra.some((r) => path.startsWith(`${r}/`) || path.startsWith(`${r}.`))) continue;
    failures++;
    console.error(`${file}: may not import ${path}`);
  }
}
if (failures) {
  console.error(`${failures} import${failures === 1 ? '' : 's'} against the table in docs/architecture.md`);
  process.exit(1);
}
console.log('imports follow the table');
