import { type Definition, definitionOf, type Field, type Shape } from '../../src/api/schema.ts';

/** A change of a valid object, named so that a difference can be found again. */
export interface Mutation {
  label: string;
  object: any;
}

type Path = (string | number)[];

const shown = (path: Path) => path.map((p) => (typeof p === 'number' ? `[${p}]` : `.${p}`)).join('');

/** Values that a careless or hostile user may write, by what should stand there. */
function values(shape: Shape): unknown[] {
  switch (shape.special) {
    case 'quantity':
      return ['-1', 'abc', '3', true];
    case 'intOrString':
      return [-1, 0, 70_000, 'Bogus Value!', '150%', true];
    case 'time':
    case 'microTime':
      return ['x', 5];
  }
  switch (shape.kind) {
    case 'string':
      return ['', 'x', 'Bogus Value!', 'a'.repeat(300), 7];
    case 'int32':
    case 'int64':
      return [-1, 0, 1, 2_147_483_647, 'x', 1.5];
    case 'number':
      return [-1, 'x'];
    case 'boolean':
      return [true, false, 'x'];
    case 'bytes':
      return ['!!!', ''];
    case 'array':
      return [[], [shape.items?.kind === 'string' ? '' : shape.items?.kind === 'object' ? {} : null], ...strings(shape), 'x', {}];
    case 'map':
      return [{}, { 'bad key!': mapValue(shape) }, { a: mapValue(shape) }, { a: [] }, 'x'];
    case 'object':
      return [{}, 'x', []];
    default:
      return [{ a: 1 }];
  }
}
const strings = (shape: Shape): unknown[] => (shape.items?.kind === 'string' ? [['Bogus Value!'], ['a', 'a'], [7]] : []);
const mapValue = (shape: Shape): unknown => (shape.items?.special === 'quantity' ? '-5' : shape.items?.kind === 'string' ? 'Bad Value!' : {});

function replaced(object: any, path: Path, value: unknown): any {
  const copy = structuredClone(object);
  let at = copy;
  for (const part of path.slice(0, -1)) at = at[part];
  const last = path.at(-1) as string;
  if (value === undefined) {
    if (Array.isArray(at)) at.splice(Number(last), 1);
    else delete at[last];
  } else at[last] = structuredClone(value);
  return copy;
}

const text = (value: unknown) => (typeof value === 'string' && value.length > 50 ? `(${value.length} letters)` : JSON.stringify(value));

/** Pod templates are the same everywhere: their inside is examined in Pods. */
const insideTemplate = (path: Path, kind: string) => {
  const template = path.indexOf('template');
  return kind !== 'Pod' && template >= 0 && path[template + 1] === 'spec' && path.length > template + 2;
};

/**
 * Systematic changes of an object by its schema: what is there is removed, emptied, and replaced by values of wrong type, range or
 * form; what is not there is added in such forms; each object gets a field that nobody knows.
 */
export function mutationsOf(object: any, definitionName: string, kind: string): Mutation[] {
  const found: Mutation[] = [];
  const add = (path: Path, value: unknown) => {
    const label = value === undefined ? `without ${shown(path)}` : `${shown(path)} = ${text(value)}`;
    found.push({ label, object: replaced(object, path, value) });
  };
  const visitField = (value: any, field: Field, path: Path) => {
    add(path, undefined);
    add(path, null);
    for (const other of values(field.shape)) if (JSON.stringify(other) !== JSON.stringify(value)) add(path, other);
    descend(value, field.shape, path);
  };
  const descend = (value: any, shape: Shape, path: Path) => {
    if (value === null || typeof value !== 'object') return;
    if (shape.kind === 'array') {
      for (let i = 0; i < value.length; i++) {
        descend(value[i], shape.items as Shape, [...path, i]);
        if (i > 0) continue;
        add([...path, value.length], value[0]);
        if (shape.items?.kind !== 'object') for (const other of values(shape.items as Shape)) add([...path, 0], other);
        else add([...path, 0], {});
      }
    } else if (shape.kind === 'map') {
      for (const key of Object.keys(value)) {
        if (shape.items?.kind === 'object') descend(value[key], shape.items, [...path, key]);
        else for (const other of values(shape.items as Shape)) add([...path, key], other);
      }
    } else if (shape.definition && !shape.definition.open) visit(value, shape.definition, path);
  };
  const visit = (value: any, definition: Definition, path: Path) => {
    const inside = insideTemplate(path, kind);
    if (!inside) add([...path, 'nobodyKnows'], 'x');
    for (const field of definition.fields.values()) {
      const at = [...path, field.name];
      if (path.length === 0 && ['apiVersion', 'kind', 'metadata', 'status'].includes(field.name)) continue;
      if (field.name in value) {
        if (inside) add(at, undefined);
        else visitField(value[field.name], field, at);
      } else if (!inside) for (const other of values(field.shape)) add(at, other);
    }
  };
  const definition = definitionOf(definitionName);
  if (definition) visit(object, definition, []);
  return found;
}

/** Changes of metadata that matter for every kind, names first. */
export function metadataMutations(object: any): Mutation[] {
  const named = (label: string, change: (metadata: any) => void): Mutation => {
    const copy = structuredClone(object);
    change(copy.metadata);
    return { label: `metadata ${label}`, object: copy };
  };
  return [
    named('name missing', (m) => delete m.name),
    named('name empty', (m) => (m.name = '')),
    named('name with capitals', (m) => (m.name = 'Bad_Name')),
    named('name of 254 letters', (m) => (m.name = 'a'.repeat(254))),
    named('name of 64 letters', (m) => (m.name = 'a'.repeat(64))),
    named('name with a dot', (m) => (m.name = 'a.b')),
    named('name with a slash', (m) => (m.name = 'a/b')),
    named('name with a percent sign', (m) => (m.name = 'a%b')),
    named('name with a colon', (m) => (m.name = 'system:a')),
    named('name that begins with a digit', (m) => (m.name = '1a')),
    named('name that ends with a hyphen', (m) => (m.name = 'a-')),
    named('generateName bad', (m) => {
      delete m.name;
      m.generateName = 'Bad_';
    }),
    named('both names', (m) => (m.generateName = 'Bad_')),
    named('namespace of another', (m) => (m.namespace = 'other')),
    named('resourceVersion', (m) => (m.resourceVersion = '1')),
    named('label key bad', (m) => (m.labels = { 'bad key': 'x' })),
    named('label key with empty prefix', (m) => (m.labels = { '/x': 'x' })),
    named('label key with two slashes', (m) => (m.labels = { 'a/b/c': 'x' })),
    named('label key long', (m) => (m.labels = { ['a'.repeat(64)]: 'x' })),
    named('label value bad', (m) => (m.labels = { a: 'bad value' })),
    named('label value long', (m) => (m.labels = { a: 'x'.repeat(64) })),
    named('label value number', (m) => (m.labels = { a: 5 })),
    named('annotation key bad', (m) => (m.annotations = { 'bad key': 'x' })),
    named('annotations too large', (m) => (m.annotations = { a: 'x'.repeat(262_145) })),
    named('finalizer bad', (m) => (m.finalizers = ['bad'])),
    named('finalizers contradict', (m) => (m.finalizers = ['orphan', 'foregroundDeletion'])),
    named('owner incomplete', (m) => (m.ownerReferences = [{ apiVersion: 'v1', kind: 'Pod', name: 'x' }])),
    named('owner empty', (m) => (m.ownerReferences = [{}])),
    named('owners twice', (m) => {
      const owner = { apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'u', controller: true };
      m.ownerReferences = [owner, { ...owner, name: 'y' }];
    }),
    named('owner event', (m) => (m.ownerReferences = [{ apiVersion: 'v1', kind: 'Event', name: 'x', uid: 'u' }])),
    named('creationTimestamp bad', (m) => (m.creationTimestamp = 'x')),
    named('unknown', (m) => (m.nobodyKnows = 1)),
    named('managedFields bad', (m) => (m.managedFields = [{ manager: 'x', operation: 'Bogus', apiVersion: 'v1' }])),
    named('null', (m) => {
      for (const key of Object.keys(m)) delete m[key];
    }),
  ];
}
