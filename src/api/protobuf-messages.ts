import { protobufMessages } from './generated/protobuf.ts';

export type Scalar = 'string' | 'bytes' | 'bool' | 'double' | 'float' | 'int32' | 'int64' | 'uint32' | 'uint64';

export interface Field {
  id: number;
  /** Its name in JSON. */
  json: string;
  type: Scalar | 'message';
  /** How its values are framed: 0 varint, 1 eight bytes, 2 with a length, 5 four bytes. */
  wire: number;
  /** Of messages. */
  message: Message;
  repeated: boolean;
  map: boolean;
  /** The field's members are its parent's in JSON. */
  inline: boolean;
  /** Zero is a value that JSON shows: a pointer, or a field without omitempty. */
  keepZero: boolean;
}

export interface Message {
  /** OpenAPI name. */
  definition: string;
  /** What follows `.pkg.` in it: how the types with a JSON form of their own are told. */
  shortName: string;
  /** In JSON a bare list. */
  list: boolean;
  /** By number. */
  fields: (Field | undefined)[];
  /** From the highest number down, for writing from the end. */
  descending: Field[];
}

const wireTypes: Partial<Record<Scalar, number>> = { string: 2, bytes: 2, double: 1, float: 5 };

let byDefinition: Map<string, Message> | undefined;

/** The table is parsed when protobuf is first spoken. */
function load(): Map<string, Message> {
  const rows = JSON.parse(protobufMessages) as [definition: string, list: number, fields: [number, string, Scalar | number, number][]][];
  const all: Message[] = rows.map(([definition, list]) => ({
    definition,
    shortName: definition.slice(definition.lastIndexOf('.pkg.') + 5),
    list: list === 1,
    fields: [],
    descending: [],
  }));
  rows.forEach(([, , fields], at) => {
    const message = all[at] as Message;
    for (const [id, json, type, flags] of fields) {
      const field: Field = {
        id,
        json,
        type: typeof type === 'number' ? 'message' : type,
        wire: typeof type === 'number' || (flags & 2) !== 0 ? 2 : (wireTypes[type] ?? 0),
        message: all[typeof type === 'number' ? type : at] as Message,
        repeated: (flags & 1) !== 0,
        map: (flags & 2) !== 0,
        inline: (flags & 4) !== 0,
        keepZero: (flags & 8) !== 0,
      };
      message.fields[id] = field;
      message.descending.unshift(field);
    }
  });
  return new Map(all.map((m) => [m.definition, m]));
}

/** The message of an OpenAPI definition; undefined where the type has no protobuf form (custom resources, Table). */
export function messageOf(definition: string): Message | undefined {
  byDefinition ??= load();
  return byDefinition.get(definition);
}

/** Packages of k8s.io/api whose name is not the group's first part. */
const packages: Record<string, string> = { '': 'core', 'internal.apiserver.k8s.io': 'apiserverinternal' };

/** The definition of a kind by its name alone, for kinds that are no resources as well (Status, DeleteOptions, AdmissionReview). */
export function definitionOfKind(group: string, version: string, kind: string): string | undefined {
  const candidates = [
    `io.k8s.api.${packages[group] ?? group.split('.')[0]}.${version}.${kind}`,
    `io.k8s.apimachinery.pkg.apis.meta.v1.${kind}`,
    `io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.${version}.${kind}`,
    `io.k8s.kube-aggregator.pkg.apis.apiregistration.${version}.${kind}`,
  ];
  return candidates.find((definition) => messageOf(definition));
}
