import { notAcceptable, unsupportedMediaType } from '../../api/errors.ts';

export interface Negotiated {
  format: 'json' | 'yaml';
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
  ranges.sort((a, b) => b.quality - a.quality);
  if (parsed.size > 500) parsed.clear();
  parsed.set(accept, ranges);
  return ranges;
}

const formats: Record<string, 'json' | 'yaml' | undefined> = {
  'application/json': 'json',
  'application/*': 'json',
  '*/*': 'json',
  'application/yaml': 'yaml',
};

export const acceptable = ['application/json', 'application/yaml'];

/**
 * The best of what Accept lists and `kinds` allows; each of kinds is `KIND.GROUP/VERSION`. StatusError 406 where nothing fits.
 */
export function negotiate(accept: string, kinds: readonly string[] = [], offered: readonly string[] = acceptable): Negotiated {
  if (!accept) return { format: 'json' };
  for (const { type, parameters } of parseAccept(accept)) {
    const format = formats[type];
    if (!format) continue;
    const { as, g: group = '', v: version = '' } = parameters;
    if (as === undefined) return { format };
    if (kinds.includes(`${as}.${group}/${version}`)) return { format, as: { kind: as, group, version } };
  }
  throw notAcceptable(`only the following media types are accepted: ${offered.join(', ')}`);
}

/** The format of a request's body. */
export function bodyFormat(contentType: string): 'application/json' | 'application/yaml' | 'application/vnd.kubernetes.protobuf' {
  const type = contentType.split(';')[0]!.trim().toLowerCase();
  if (type === '' || type === 'application/json' || type === '*/*') return 'application/json';
  if (type === 'application/yaml' || type === 'application/vnd.kubernetes.protobuf') return type;
  throw unsupportedMediaType(`the body of the request was in an unknown format - accepted media types include: ${acceptable.join(', ')}`);
}
