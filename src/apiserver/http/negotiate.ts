import { notAcceptable, unsupportedMediaType } from '../../api/errors.ts';

export type Format = 'json' | 'yaml' | 'protobuf';

export interface Negotiated {
  format: Format;
  /** Another kind than the object's own: Table, PartialObjectMetadata, PartialObjectMetadataList, APIGroupDiscoveryList. */
  as?: { kind: string; group: string; version: string };
}

interface MediaRange {
  type: string;
  parameters: Record<string, string>;
  quality: number;
}

const parsed = new Map<string, MediaRange[]>();

function parseAccept(accept: string): MediaRange[] {
  let ranges = parsed.get(accept);
  if (ranges) return ranges;
  ranges = accept
    .split(',')
    .map((part) => {
      const [type = '', ...rest] = part.split(';').map((s) => s.trim());
      const parameters: Record<string, string> = {};
      for (const one of rest) {
        const at = one.indexOf('=');
        if (at > 0) parameters[one.slice(0, at).toLowerCase()] = one.slice(at + 1).replace(/^"|"$/g, '');
      }
      const quality = parameters['q'] === undefined ? 1 : Number(parameters['q']);
      return { type: type.toLowerCase(), parameters, quality: Number.isFinite(quality) ? quality : 0 };
    })
    .filter((range) => range.type && range.quality > 0);
  // What is named whole goes before what is left open.
  ranges.sort((a, b) => b.quality - a.quality || wildcards(a.type) - wildcards(b.type));
  if (parsed.size > 500) parsed.clear();
  parsed.set(accept, ranges);
  return ranges;
}

const wildcards = (type: string) => (type.startsWith('*/') ? 2 : type.endsWith('/*') ? 1 : 0);

const formats: Record<string, Format | undefined> = {
  'application/json': 'json',
  'application/*': 'json',
  '*/*': 'json',
  'application/yaml': 'yaml',
  'application/vnd.kubernetes.protobuf': 'protobuf',
};

export const contentTypes: Record<Format, string> = {
  json: 'application/json',
  yaml: 'application/yaml',
  protobuf: 'application/vnd.kubernetes.protobuf',
};

export const allFormats: readonly Format[] = ['json', 'yaml', 'protobuf'];
/** Of what has no message. */
export const textFormats: readonly Format[] = ['json', 'yaml'];
/** YAML documents cannot follow each other in a watch. */
export const streamFormats: readonly Format[] = ['json', 'protobuf'];

/**
 * The best of what Accept lists and `kinds` allows; each of kinds is `KIND.GROUP/VERSION`. `offered` are the formats of the object
 * itself: metadata can always be had in protobuf, a Table never. StatusError 406 where nothing fits.
 */
export function negotiate(accept: string, kinds: readonly string[] = [], offered: readonly Format[] = allFormats): Negotiated {
  if (!accept) return { format: 'json' };
  for (const { type, parameters } of parseAccept(accept)) {
    const format = formats[type];
    if (!format) continue;
    const { as, g: group = '', v: version = '' } = parameters;
    if (as === undefined) {
      if (offered.includes(format)) return { format };
    } else if (
      kinds.includes(`${as}.${group}/${version}`) &&
      (format !== 'protobuf' || as !== 'Table') &&
      (format !== 'yaml' || offered.includes('yaml'))
    ) {
      return { format, as: { kind: as, group, version } };
    }
  }
  throw notAcceptable(`only the following media types are accepted: ${offered.map((format) => contentTypes[format]).join(', ')}`);
}

/** The format of a request's body. */
export function bodyFormat(contentType: string): 'application/json' | 'application/yaml' | 'application/vnd.kubernetes.protobuf' {
  const type = contentType.split(';')[0]!.trim().toLowerCase();
  if (type === '' || type === 'application/json' || type === '*/*') return 'application/json';
  if (type === 'application/yaml' || type === 'application/vnd.kubernetes.protobuf') return type;
  throw unsupportedMediaType(
    `the body of the request was in an unknown format - accepted media types include: ${allFormats.map((format) => contentTypes[format]).join(', ')}`,
  );
}
