import { t } from '../types.ts';
import { CelError, listOf, mapOf, Opaque, type Value } from '../values.ts';
import { library } from './library.ts';

/** A URL by its parts, as Go's net/url has them. */
class Url extends Opaque {
  readonly type = t.opaque('kubernetes.URL');
  readonly text: string;
  readonly scheme: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  constructor(text: string, parts: RegExpExecArray) {
    super();
    this.text = text;
    this.scheme = (parts[1] ?? '').toLowerCase();
    this.host = (parts[2] ?? '').replace(/^.*@/, '');
    this.path = parts[3] ?? '';
    this.query = parts[4] ?? '';
  }
  override equals(other: Opaque): boolean {
    return this.text === (other as Url).text;
  }
}

/** As url.ParseRequestURI: absolute, or a path. undefined where the text is neither. */
function parse(text: string): Url | undefined {
  if (/[\x00-\x20\x7f]/.test(text)) return undefined;
  const parts = /^(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?:\/\/([^/?]*))?([^?]*)(?:\?(.*))?$/.exec(text);
  if (!parts || (!parts[1] && !text.startsWith('/'))) return undefined;
  if (/%(?![0-9a-fA-F]{2})/.test(parts[3] ?? '')) return undefined;
  const host = (parts[2] ?? '').replace(/^.*@/, '');
  if (host && !/^(\[[0-9a-fA-F:.%]+\]|[^[\]:<>"\\^`{|}]*)(:\d*)?$/.test(host)) return undefined;
  return new Url(text, parts);
}

function queryOf(url: Url): Value {
  const values = new Map<string, string[]>();
  for (const [key, value] of new URLSearchParams(url.query)) values.set(key, [...(values.get(key) ?? []), value]);
  return mapOf([...values].map(([key, list]) => [key, listOf(list)]));
}

const hostname = (url: Url): string => url.host.replace(/:\d*$/, '').replace(/^\[(.*)\]$/, '$1');

export const urlLibrary = library({
  url: [
    [
      'string_to_url',
      '(string) kubernetes.URL',
      (text: string) => {
        const url = parse(text);
        if (!url) throw new CelError(`URL parse error during conversion from string: parse ${JSON.stringify(text)}: invalid URI for request`);
        return url;
      },
    ],
  ],
  isURL: [['is_url_string', '(string) bool', (text: string) => parse(text) !== undefined]],
  getScheme: [['url_get_scheme', 'kubernetes.URL.() string', (u: Url) => u.scheme]],
  getHost: [['url_get_host', 'kubernetes.URL.() string', (u: Url) => u.host]],
  getHostname: [['url_get_hostname', 'kubernetes.URL.() string', hostname]],
  getPort: [['url_get_port', 'kubernetes.URL.() string', (u: Url) => /:(\d*)$/.exec(u.host)?.[1] ?? '']],
  getEscapedPath: [['url_get_escaped_path', 'kubernetes.URL.() string', (u: Url) => u.path]],
  getQuery: [['url_get_query', 'kubernetes.URL.() map<string, list<string>>', queryOf]],
});
