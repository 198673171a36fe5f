/** How Pulumi puts values that JSON has no word for into protobuf's Struct. */
const signature = '4dabf18193072939515e22adb298388d';
const secretSignature = '1b47061264138c4ac30d75fd1eb44270';
const unknownText = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';

/** A value that becomes known only when something else exists: in previews alone. */
export const unknown: unique symbol = Symbol('unknown');

export type Properties = Record<string, unknown>;

/** Properties as plain values, and the names of those that hold a secret anywhere. */
export interface Decoded {
  properties: Properties;
  secrets: Set<string>;
}

export function decode(struct: Properties | undefined): Decoded {
  const secrets = new Set<string>();
  const properties: Properties = {};
  for (const [name, value] of Object.entries(struct ?? {})) {
    properties[name] = plain(value, () => secrets.add(name));
  }
  return { properties, secrets };
}

function plain(value: unknown, onSecret: () => void): unknown {
  if (value === unknownText) return unknown;
  if (Array.isArray(value)) return value.map((one) => plain(one, onSecret));
  if (typeof value !== 'object' || value === null) return value;
  const object = value as Properties;
  if (object[signature] === secretSignature) {
    onSecret();
    return plain(object['value'], onSecret);
  }
  if (object[signature] !== undefined) throw new Error('assets, archives and resource references are no values of this provider');
  return Object.fromEntries(Object.entries(object).map(([k, v]) => [k, plain(v, onSecret)]));
}

/** The other way; a name in secrets has its whole value marked, so that state and screen never show it. */
export function encode(properties: Properties, secrets: ReadonlySet<string>): Properties {
  const struct: Properties = {};
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    const encoded = wire(value);
    struct[name] = secrets.has(name) ? { [signature]: secretSignature, value: encoded } : encoded;
  }
  return struct;
}

function wire(value: unknown): unknown {
  if (value === unknown) return unknownText;
  if (Array.isArray(value)) return value.map(wire);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, v]) => v !== undefined)
      .map(([k, v]) => [k, wire(v)]),
  );
}

export function hasUnknown(value: unknown): boolean {
  if (value === unknown) return true;
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).some(hasUnknown);
}
