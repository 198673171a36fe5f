/**
 * An OpenAPI v2 document in the protobuf form that kubectl asks for (openapi.v2.Document of gnostic-models):
 * what the documents of src/api/openapi.ts use of it. Field numbers are those of OpenAPIv2.proto.
 */

/** Clients ask for it with an @ before v1.0, which is no valid media type: the answer has a dot there. */
export const openapiProtobufType = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}

const message = (...parts: (Buffer | undefined)[]): Buffer => Buffer.concat(parts.filter((p) => p !== undefined));
const bytes = (id: number, value: Buffer | undefined): Buffer | undefined =>
  value && Buffer.concat([varint(id * 8 + 2), varint(value.length), value]);
const text = (id: number, value: unknown): Buffer | undefined =>
  typeof value === 'string' && value !== '' ? bytes(id, Buffer.from(value)) : undefined;
const bool = (id: number, value: unknown): Buffer | undefined => (value === true ? Buffer.from([...varint(id * 8), 1]) : undefined);
const texts = (id: number, values: string[] | undefined): Buffer | undefined => values && message(...values.map((v) => text(id, v)));
const named = (id: number, members: Record<string, any>, encode: (value: any) => Buffer): Buffer =>
  message(...Object.entries(members).map(([name, value]) => bytes(id, message(text(1, name), bytes(2, encode(value))))));

/** Extensions are YAML texts, of which JSON is one form. */
const extensions = (id: number, object: Record<string, any>): Buffer =>
  named(id, Object.fromEntries(Object.entries(object).filter(([name]) => name.startsWith('x-'))), (value) => message(text(2, JSON.stringify(value))));

/** Any of gnostic: a YAML text. */
const anyValue = (value: unknown): Buffer => message(text(2, JSON.stringify(value)));
const integer = (id: number, value: unknown): Buffer | undefined =>
  typeof value === 'number' && value > 0 ? Buffer.concat([varint(id * 8), varint(value)]) : undefined;
function double(id: number, value: unknown): Buffer | undefined {
  if (typeof value !== 'number' || value === 0) return undefined;
  const fixed = Buffer.alloc(8);
  fixed.writeDoubleLE(value);
  return Buffer.concat([varint(id * 8 + 1), fixed]);
}

function schema(s: any): Buffer {
  const { additionalProperties: more } = s;
  return message(
    text(1, s.$ref),
    text(2, s.format),
    text(3, s.title),
    text(4, s.description),
    s.default === undefined ? undefined : bytes(5, anyValue(s.default)),
    double(6, s.multipleOf),
    double(7, s.maximum),
    bool(8, s.exclusiveMaximum),
    double(9, s.minimum),
    bool(10, s.exclusiveMinimum),
    integer(11, s.maxLength),
    integer(12, s.minLength),
    text(13, s.pattern),
    integer(14, s.maxItems),
    integer(15, s.minItems),
    bool(16, s.uniqueItems),
    integer(17, s.maxProperties),
    integer(18, s.minProperties),
    texts(19, s.required),
    ...(s.enum ?? []).map((value: unknown) => bytes(20, anyValue(value))),
    more === undefined ? undefined : bytes(21, typeof more === 'boolean' ? message(bool(2, more)) : message(bytes(1, schema(more)))),
    s.type === undefined ? undefined : bytes(22, message(text(1, s.type))),
    s.items === undefined ? undefined : bytes(23, message(bytes(1, schema(s.items)))),
    s.properties === undefined ? undefined : bytes(25, named(1, s.properties, schema)),
    extensions(31, s),
  );
}

function parameter(p: any): Buffer {
  if (p.in === 'body') {
    const body = message(text(1, p.description), text(2, p.name), text(3, p.in), bool(4, p.required), bytes(5, schema(p.schema)));
    return message(bytes(1, message(bytes(1, body))));
  }
  const inPath = p.in === 'path';
  const own = inPath
    ? message(bool(1, p.required), text(2, p.in), text(4, p.name), text(5, p.type), bool(19, p.uniqueItems))
    : message(bool(1, p.required), text(2, p.in), text(4, p.name), text(6, p.type), bool(20, p.uniqueItems));
  return message(bytes(1, message(bytes(2, message(bytes(inPath ? 4 : 3, own))))));
}

/** SchemaItem of a Response wraps the schema; ResponseValue wraps the Response. */
const response = (r: any): Buffer =>
  message(bytes(1, message(text(1, r.description), r.schema === undefined ? undefined : bytes(2, message(bytes(1, schema(r.schema)))))));

const operation = (o: any): Buffer =>
  message(
    texts(1, o.tags),
    text(3, o.description),
    text(5, o.operationId),
    texts(6, o.produces),
    texts(7, o.consumes),
    ...(o.parameters ?? []).map((p: any) => bytes(8, parameter(p))),
    o.responses === undefined ? undefined : bytes(9, named(1, o.responses, response)),
    texts(10, o.schemes),
    extensions(13, o),
  );

const methods: Record<string, number> = { get: 2, put: 3, post: 4, delete: 5, options: 6, head: 7, patch: 8 };

const pathItem = (item: any): Buffer =>
  message(
    ...Object.entries(methods).map(([method, id]) => (item[method] === undefined ? undefined : bytes(id, operation(item[method])))),
    ...(item.parameters ?? []).map((p: any) => bytes(9, parameter(p))),
  );

/** The one kind of SecurityDefinitionsItem in these documents. */
const apiKey = (k: any): Buffer => message(bytes(2, message(text(1, k.type), text(2, k.name), text(3, k.in), text(4, k.description))));

export function encodeOpenapiV2(document: any): Buffer {
  return message(
    text(1, document.swagger),
    bytes(2, message(text(1, document.info?.title), text(2, document.info?.version))),
    bytes(8, named(2, document.paths ?? {}, pathItem)),
    bytes(9, named(1, document.definitions ?? {}, schema)),
    ...(document.security ?? []).map((needed: Record<string, string[]>) => bytes(12, named(1, needed, (scopes) => message(texts(1, scopes))))),
    bytes(13, named(1, document.securityDefinitions ?? {}, apiKey)),
  );
}
