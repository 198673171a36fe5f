/** Attributes that hold a URL, by element; as HTML defines them. */
const attributes: Record<string, string[]> = {
  a: ['href'],
  area: ['href'],
  audio: ['src'],
  base: ['href'],
  blockquote: ['cite'],
  body: ['background'],
  button: ['formaction'],
  del: ['cite'],
  embed: ['src'],
  form: ['action'],
  frame: ['longdesc', 'src'],
  html: ['manifest'],
  iframe: ['longdesc', 'src'],
  img: ['longdesc', 'src', 'usemap'],
  input: ['src', 'formaction', 'usemap'],
  ins: ['cite'],
  link: ['href'],
  object: ['classid', 'codebase', 'data', 'usemap'],
  q: ['cite'],
  script: ['src'],
  source: ['src'],
  video: ['poster', 'src'],
};

/**
 * A URL of a page behind a proxy, so that it leads through the proxy again: paths from the root, and URLs of the page's own
 * host, get the proxy's path in front. Relative ones lead there anyway; others lead elsewhere.
 */
export function throughProxy(url: string, prefix: string, host: string): string {
  const own = new RegExp(`^https?://${host.replace(/[.[\]]/g, '\\$&')}(?=[/?#]|$)`, 'i').exec(url);
  const path = own ? url.slice(own[0].length) || '/' : url;
  if (!own && (!path.startsWith('/') || path.startsWith('//'))) return url;
  return path.startsWith(prefix) ? path : `${prefix}${path.startsWith('/') ? path : `/${path}`}`;
}

/** The page with its links led through the proxy at prefix; host is the page's own, as HOST:PORT. */
export function rewriteLinks(html: string, prefix: string, host: string): string {
  return html.replace(/<([a-z]+)(\s[^>]*)>/gi, (tag, element: string, rest: string) => {
    const names = attributes[element.toLowerCase()];
    if (!names) return tag;
    const changed = rest.replace(/(\s)([a-z]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)/gi, (whole, space: string, name: string, equals: string, value: string) => {
      if (!names.includes(name.toLowerCase())) return whole;
      const quote = value[0] === '"' || value[0] === "'" ? value[0] : '';
      const url = quote ? value.slice(1, -1) : value;
      return `${space}${name}${equals}${quote}${throughProxy(url, prefix, host)}${quote}`;
    });
    return `<${element}${changed}>`;
  });
}
