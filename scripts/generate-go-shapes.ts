/**
 * Generates src/api/generated/shapes.ts from the Go declarations of the API types:
 *
 *     node bin/node24.js scripts/generate-go-shapes.ts MODULES VERSION
 *
 * MODULES is a folder k8s.io of a Go module cache, VERSION that of the modules in it, such as v0.37.2. What it takes from there is
 * what OpenAPI does not say and clients see: whether a field without a value is left out, written as null or as its zero value, and
 * the names of scalar types, which stand in decoding errors.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { definitionNames } from '../src/api/schema.ts';

const [modules, version] = process.argv.slice(2);
if (!modules || !version) {
  console.error('usage: generate-go-shapes.ts MODULES VERSION');
  process.exit(2);
}

/** The folder of a definition's Go package. */
function packageOf(definition: string): string | undefined {
  const parts = definition.split('.').slice(0, -1);
  if (definition.startsWith('io.k8s.api.')) return join(`api@${version}`, ...parts.slice(3));
  const module = parts[2];
  return module ? join(`${module}@${version}`, ...parts.slice(3)) : undefined;
}

interface GoField {
  json: string;
  type: string;
  options: string[];
  inline: boolean;
}
interface GoPackage {
  structs: Map<string, GoField[]>;
  /** Named types that are no structs, with what they stand for. */
  named: Map<string, string>;
}
const packages = new Map<string, GoPackage>();

function load(folder: string): GoPackage {
  const known = packages.get(folder);
  if (known) return known;
  const result: GoPackage = { structs: new Map(), named: new Map() };
  packages.set(folder, result);
  const path = join(modules!, folder);
  if (!existsSync(path)) return result;
  for (const file of readdirSync(path)) {
    if (!file.endsWith('.go') || file.endsWith('_test.go') || file.startsWith('zz_') || file.startsWith('generated')) continue;
    const text = readFileSync(join(path, file), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    for (const m of text.matchAll(/^type (\w+) struct \{\n([\s\S]*?)^\}/gm)) {
      const fields: GoField[] = [];
      for (const line of m[2]!.split('\n')) {
        const f = /^\s*(?:(\w+)\s+)?([\w.*[\]{} ]+?)\s+`[^`]*json:"([^"]*)"/.exec(line.replace(/^\s*\/\/.*/, ''));
        if (!f) continue;
        const [json = '', ...options] = f[3]!.split(',');
        if (json === '-') continue;
        fields.push({ json, type: f[2]!.trim(), options, inline: options.includes('inline') || (json === '' && !f[1]) });
      }
      result.structs.set(m[1]!, fields);
    }
    for (const m of text.matchAll(/^type (\w+) ((?:\[\]|map\[\w+\])?\*?[\w.]+)$/gm)) result.named.set(m[1]!, m[2]!);
    // Groups of declarations: type ( A string; B int32 )
    for (const m of text.matchAll(/^\t(\w+) (string|int32|int64|bool)$/gm)) if (!result.named.has(m[1]!)) result.named.set(m[1]!, m[2]!);
  }
  return result;
}

const aliases: Record<string, string> = {
  metav1: `apimachinery@${version}/pkg/apis/meta/v1`,
  v1: `api@${version}/core/v1`,
  corev1: `api@${version}/core/v1`,
  types: `apimachinery@${version}/pkg/types`,
};
const scalars = new Set(['string', 'int', 'int32', 'int64', 'uint32', 'bool', 'float64', 'byte']);
/** Structs with a form of their own, by how their zero value is written. */
const special: Record<string, string> = { Time: 'null', MicroTime: 'null', Quantity: '"0"', IntOrString: '0', RawExtension: 'null', Duration: '"0s"', JSON: 'null' };

/** A type's underlying one, through named types: string, struct, slice, map, pointer. */
function under(folder: string, type: string): { kind: string; name: string } {
  if (type.startsWith('*')) return { kind: 'pointer', name: type };
  if (type.startsWith('[]') || type.startsWith('map[')) return { kind: 'list', name: type };
  if (scalars.has(type)) return { kind: type, name: type };
  const [alias, name] = type.includes('.') ? type.split('.') : ['', type];
  const where = alias ? (folder.endsWith('meta/v1') && alias === 'v1' ? folder : (aliases[alias] ?? '')) : folder;
  const pkg = load(where);
  const named = pkg.named.get(name!);
  if (special[name!] && (alias || folder.includes('meta/v1') || name === 'JSON')) return { kind: 'special', name: name! };
  if (named) {
    const inner = under(where, named);
    return { kind: inner.kind, name: `${where.split('/').at(-1)}.${name}` };
  }
  return { kind: pkg.structs.has(name!) ? 'struct' : alias ? 'struct' : 'unknown', name: name! };
}

/** A type as messages name it: `v1.QualifiedName`, `string`. */
function qualified(folder: string, type: string): string {
  if (scalars.has(type)) return type;
  if (!type.includes('.')) return `${folder.split('/').at(-1)}.${type}`;
  const [alias, name] = type.split('.');
  return aliases[alias!] ? `${aliases[alias!]!.split('/').at(-1)}.${name}` : type;
}

/**
 * A field's code: what stands there when there is no value. `-` nothing, `n` null, `z` the zero value (of special structs given after
 * it), `s` an empty object; with `0` behind `-` also a zero value is left out.
 */
function codeOf(folder: string, field: GoField): string {
  const omit = field.options.includes('omitempty');
  const omitZero = field.options.includes('omitzero');
  const { kind, name } = under(folder, field.type);
  switch (kind) {
    case 'pointer': {
      const inner = under(folder, field.type.slice(1));
      const suffix = scalars.has(inner.kind) && inner.name.includes('.') ? ` ${inner.name}` : '';
      return (omit || omitZero ? '-' : 'n') + suffix;
    }
    case 'list': {
      const map = /^map\[([\w.]+)\]([\w.]+)$/.exec(field.type);
      if (map) {
        // Maps whose keys or values have types with names of their own.
        const [key, value] = [qualified(folder, map[1]!), qualified(folder, map[2]!)];
        const { kind: valueKind } = under(folder, map[2]!);
        const plain = key === 'string' && (scalars.has(valueKind) || valueKind === 'struct' || valueKind === 'special');
        return (omit || omitZero ? '-' : 'n') + (plain ? '' : ` =map[${key}]${value}`);
      }
      const own = name.includes('.') && !name.startsWith('[') && !name.startsWith('map') ? ` =${name}` : '';
      const item = under(folder, field.type.replace(/^\[\]|^map\[[\w.]+\]/, ''));
      const element = !own && scalars.has(item.kind) && item.name.includes('.') ? ` ${item.name}` : '';
      return (omit || omitZero ? '-' : 'n') + own + element;
    }
    case 'struct':
      return omitZero ? '-s' : 's';
    case 'special':
      return omitZero ? '-' : `z=${special[name]}`;
    case 'unknown':
      return omit || omitZero ? '-' : 'n';
    default:
      return (omit || omitZero ? '-0' : 'z') + (name.includes('.') ? ` ${name}` : '');
  }
}

function fieldsOf(folder: string, struct: string): [string, string][] {
  const fields = load(folder).structs.get(struct) ?? [];
  return fields.flatMap((f): [string, string][] => {
    if (!f.inline) return [[f.json, codeOf(folder, f)]];
    const type = f.type.replace(/^\*/, '');
    const [alias, name] = type.includes('.') ? type.split('.') : ['', type];
    if (name === 'TypeMeta') return [];
    // The name of the embedded struct stands in the paths of decoding errors, where it is embedded without a name of its own.
    return fieldsOf(alias ? (aliases[alias] ?? '') : folder, name!).map(([f2, code]) => [f2, `${code} ^${name}`]);
  });
}

const lines: string[] = [];
let missing = 0;
for (const name of definitionNames) {
  const folder = packageOf(name);
  const struct = name.split('.').at(-1) as string;
  const fields = folder ? fieldsOf(folder, struct) : [];
  if (!fields.length) missing++;
  // Most fields are optional pointers or lists: only the others are listed.
  const told = fields.filter(([, code]) => code !== '-');
  if (told.length) lines.push(`${name}|${told.map(([f, code]) => `${f} ${code}`).join(';')}`);
}
writeFileSync(
  join(import.meta.dirname, '../src/api/generated/shapes.ts'),
  `// Generated by scripts/generate-go-shapes.ts. Do not edit.\n/** name|fields that are not simply left out when empty: see codeOf there. */\nexport const shapeTable = ${JSON.stringify(lines).replaceAll('","', '",\n"')};\n`,
);
console.log(`${lines.length} definitions, ${missing} without a Go declaration`);
