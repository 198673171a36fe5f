/**
 * What only Kubernetes' Go types say of a field: whether it is a pointer, and whether JSON leaves it out when it is zero. Read
 * from the source of k8s.io/api and its siblings, as the Go module cache holds it.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export interface GoField {
  json: string;
  /** As Go writes it: *int32, []Container, ObjectMeta … */
  type: string;
  omitEmpty: boolean;
  omitZero: boolean;
  inline: boolean;
}

/** Folders with API types, by module and path below it. */
const roots: [module: string, folder: string][] = [
  ['api', ''],
  ['apimachinery', 'pkg/apis/meta'],
  ['apimachinery', 'pkg/runtime'],
  ['apiextensions-apiserver', 'pkg/apis/apiextensions'],
  ['kube-aggregator', 'pkg/apis/apiregistration'],
];

/** Structs by their message's name (k8s.io.api.core.v1.Pod), and named types that are no structs by the same kind of name. */
export function readGoFields(modules: string, version: string): { structs: Map<string, GoField[]>; named: Map<string, string> } {
  const structs = new Map<string, GoField[]>();
  const named = new Map<string, string>();
  const visit = (folder: string, path: string) => {
    for (const name of readdirSync(folder)) {
      const file = join(folder, name);
      if (statSync(file).isDirectory()) visit(file, `${path}/${name}`);
      else if (name.endsWith('.go') && !name.endsWith('_test.go') && !name.startsWith('zz_') && name !== 'generated.pb.go')
        readFile(file, path, structs, named);
    }
  };
  for (const [module, folder] of roots) visit(join(modules, `${module}@${version}`, folder), `k8s.io/${module}${folder ? `/${folder}` : ''}`);
  return { structs, named };
}

function readFile(file: string, path: string, structs: Map<string, GoField[]>, named: Map<string, string>): void {
  const prefix = path.replaceAll('/', '.').replaceAll('-', '_');
  let current: GoField[] | undefined;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const struct = /^type (\w+) struct \{/.exec(line);
    if (struct) {
      current = [];
      structs.set(`${prefix}.${struct[1]}`, current);
      continue;
    }
    const alias = /^type (\w+) ([\w[\]*.]+)/.exec(line);
    if (alias) named.set(`${prefix}.${alias[1]}`, alias[2] as string);
    if (line.startsWith('}')) current = undefined;
    const tag = /`.*?json:"([^"]*)"/.exec(line);
    if (!current || !tag || /^\s*\/\//.test(line)) continue;
    const [json = '', ...options] = (tag[1] as string).split(',');
    const words = line.slice(0, line.indexOf('`')).trim().split(/\s+/);
    current.push({
      json,
      type: words.at(-1) as string,
      omitEmpty: options.includes('omitempty'),
      omitZero: options.includes('omitzero'),
      inline: options.includes('inline') || (json === '' && words.length === 1),
    });
  }
}
