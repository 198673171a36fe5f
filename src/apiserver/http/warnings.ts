/** Up to so many characters of warnings go out whole; of more, each is cut. */
const wholeUpTo = 4096;
const cutAt = 256;

/** The values of Warning headers for these texts: each once, none with control characters, and of many only their beginnings, as upstream does. */
export function warningHeaders(texts: readonly string[]): string[] {
  const shown = [...new Set(texts)].filter((text) => text !== '' && !/\p{Cc}/u.test(text)).map((text) => text.toWellFormed());
  let total = 0;
  for (const text of shown) total += text.length;
  if (total <= wholeUpTo) return shown.map(header);
  const kept: string[] = [];
  total = 0;
  for (const text of shown) {
    if (total >= wholeUpTo) break;
    const cut = text.length > cutAt ? [...text].slice(0, cutAt).join('') : text;
    total += cut.length;
    kept.push(header(cut));
  }
  return kept;
}

/** Node writes headers as latin1: the bytes of UTF-8 pass as such. */
const header = (text: string): string => Buffer.from(`299 - "${text.replace(/["\\]/g, '\\$&')}"`, 'utf8').toString('latin1');
