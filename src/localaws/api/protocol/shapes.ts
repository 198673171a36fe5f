/**
 * Reads the static schemas that the AWS SDK's packages export (arrays such as `[3, namespace, name, traits, members, …]`) into
 * shapes that the codecs walk. A shape is made when it is first used, and once.
 */
export interface Traits {
  /** Name in XML and in query parameters. */
  xmlName?: string;
  /** Name in EC2's query parameters. */
  ec2QueryName?: string;
  xmlFlattened?: unknown;
  jsonName?: string;
}

export interface Member {
  name: string;
  traits: Traits;
  required: boolean;
  readonly shape: Shape;
}

export interface StructureShape {
  kind: 'structure';
  name: string;
  members: Member[];
}

export type Shape =
  | { kind: 'string' | 'number' | 'boolean' | 'blob' | 'document' | 'unit' }
  | { kind: 'timestamp'; format: 'date-time' | 'epoch-seconds' | 'http-date' | undefined }
  | { kind: 'list'; member: Member }
  | { kind: 'map'; key: Member; value: Member }
  | StructureShape;

type Schema = any;

const simple: Record<number, Shape> = {
  0: { kind: 'string' },
  1: { kind: 'number' },
  2: { kind: 'boolean' },
  4: { kind: 'timestamp', format: undefined },
  5: { kind: 'timestamp', format: 'date-time' },
  6: { kind: 'timestamp', format: 'http-date' },
  7: { kind: 'timestamp', format: 'epoch-seconds' },
  15: { kind: 'document' },
  17: { kind: 'number' },
  19: { kind: 'number' },
  21: { kind: 'blob' },
  42: { kind: 'blob' },
};
const listModifier = 64;
const mapModifier = 128;

const shapes = new Map<unknown, Shape>();

function compile(schema: Schema): Shape {
  if (typeof schema === 'number') {
    if (schema >= mapModifier) return { kind: 'map', key: member('key', 0, false), value: member('value', schema & 63, false) };
    if (schema >= listModifier) return { kind: 'list', member: member('member', schema & 63, false) };
    const shape = simple[schema];
    if (!shape) throw new Error(`schema ${schema} is not one this endpoint can read`);
    return shape;
  }
  if (schema === 'unit' || schema === undefined) return { kind: 'unit' };
  switch (schema[0]) {
    case 0:
      return shapeOf(schema[4]);
    case 1:
      return { kind: 'list', member: member('member', schema[4], false) };
    case 2:
      return { kind: 'map', key: member('key', schema[4], false), value: member('value', schema[5], false) };
    case 3:
    case -3:
    case 4: {
      const required: number = schema[6] ?? 0;
      return {
        kind: 'structure',
        name: schema[2],
        members: (schema[4] as string[]).map((name, i) => member(name, schema[5][i], i < required)),
      };
    }
    default:
      throw new Error(`schema ${JSON.stringify(schema).slice(0, 80)} is not one this endpoint can read`);
  }
}

function member(name: string, reference: Schema, required: boolean): Member {
  let traits: Traits = {};
  let target = reference;
  if (Array.isArray(target) && target.length === 2) {
    if (typeof target[1] === 'object') traits = target[1];
    target = target[0];
  }
  let shape: Shape | undefined;
  return {
    name,
    traits,
    required,
    get shape() {
      return (shape ??= shapeOf(target));
    },
  };
}

/** The shape of a schema or of a function that returns it. */
export function shapeOf(schema: Schema): Shape {
  const target = typeof schema === 'function' ? schema() : schema;
  let shape = shapes.get(target);
  if (!shape) shapes.set(target, (shape = compile(target)));
  return shape;
}
