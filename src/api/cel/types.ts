/** Types as the checker knows them. */
export interface Type {
  kind:
    | 'dyn'
    | 'null'
    | 'bool'
    | 'int'
    | 'uint'
    | 'double'
    | 'string'
    | 'bytes'
    | 'timestamp'
    | 'duration'
    | 'type'
    | 'list'
    | 'map'
    | 'object'
    | 'optional'
    | 'opaque'
    | 'param';
  /** Of lists, map values and optionals. */
  elem?: Type;
  /** Of maps. */
  key?: Type;
  /** Of objects, opaque types and type parameters. */
  name?: string;
  fields?: Map<string, Type>;
  /** Where it comes from a schema: the most items, characters or bytes a value can have. */
  max?: number;
  /** The least bytes a value takes as JSON. */
  least?: number;
}

const simple = (kind: Type['kind'], least = 1): Type => ({ kind, least });

export const t = {
  dyn: simple('dyn'),
  null: simple('null'),
  bool: simple('bool', 4),
  int: simple('int'),
  uint: simple('uint'),
  double: simple('double'),
  string: simple('string', 2),
  bytes: simple('bytes', 2),
  timestamp: simple('timestamp', 21),
  duration: simple('duration', 3),
  type: simple('type'),
  list: (elem: Type): Type => ({ kind: 'list', elem }),
  map: (key: Type, elem: Type): Type => ({ kind: 'map', key, elem }),
  optional: (elem: Type): Type => ({ kind: 'optional', elem }),
  opaque: (name: string): Type => ({ kind: 'opaque', name }),
  param: (name: string): Type => ({ kind: 'param', name }),
  object: (name: string, fields: Record<string, Type> | Map<string, Type>): Type => ({
    kind: 'object',
    name,
    fields: fields instanceof Map ? fields : new Map(Object.entries(fields)),
  }),
};

/** As cel-go shows types in messages. */
export function typeText(type: Type): string {
  switch (type.kind) {
    case 'list':
      return `list(${typeText(type.elem ?? t.dyn)})`;
    case 'map':
      return `map(${typeText(type.key ?? t.dyn)}, ${typeText(type.elem ?? t.dyn)})`;
    case 'optional':
      return `optional_type(${typeText(type.elem ?? t.dyn)})`;
    case 'object':
    case 'opaque':
    case 'param':
      return type.name ?? 'dyn';
    default:
      return type.kind;
  }
}

const names: Record<string, Type> = {
  dyn: t.dyn,
  null: t.null,
  bool: t.bool,
  int: t.int,
  uint: t.uint,
  double: t.double,
  string: t.string,
  bytes: t.bytes,
  timestamp: t.timestamp,
  duration: t.duration,
  type: t.type,
};

/** A function's parameters and result, from text such as `list<A>.(A) int`, or `(string, int) bool`. */
export interface Signature {
  target: Type | undefined;
  params: Type[];
  result: Type;
}

export function parseSignature(text: string): Signature {
  let at = 0;
  const space = () => {
    while (text[at] === ' ') at++;
  };
  const type = (): Type => {
    space();
    const found = /[\w.]*\w/y;
    found.lastIndex = at;
    const name = found.exec(text)?.[0] ?? '';
    at += name.length;
    const args: Type[] = [];
    if (text[at] === '<') {
      do {
        at++;
        args.push(type());
        space();
      } while (text[at] === ',');
      at++;
    }
    if (name === 'list') return t.list(args[0] as Type);
    if (name === 'map') return t.map(args[0] as Type, args[1] as Type);
    if (name === 'optional') return t.optional(args[0] as Type);
    return names[name] ?? (/^[A-Z]$/.test(name) ? t.param(name) : t.opaque(name));
  };
  let target: Type | undefined;
  if (text[0] !== '(') {
    target = type();
    at++;
  }
  at++;
  const params: Type[] = [];
  space();
  while (text[at] !== ')') {
    params.push(type());
    space();
    if (text[at] === ',') at++;
  }
  at++;
  return { target, params, result: type() };
}
