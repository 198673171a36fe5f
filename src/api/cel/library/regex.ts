import { RE2JS } from 're2js';
import { CelError, type CelList, listOf } from '../values.ts';
import { library } from './library.ts';

const compiled = new Map<string, RE2JS>();

/** A pattern of RE2. CelError where it is none. */
export function compileRegex(pattern: string): RE2JS {
  let known = compiled.get(pattern);
  if (known) return known;
  try {
    known = RE2JS.compile(pattern);
  } catch (error) {
    throw new CelError((error as Error).message);
  }
  if (compiled.size > 2000) compiled.clear();
  compiled.set(pattern, known);
  return known;
}

function findAll(text: string, pattern: string, limit: bigint): CelList {
  const matcher = compileRegex(pattern).matcher(text);
  const found: string[] = [];
  while ((limit < 0n || found.length < limit) && matcher.find()) found.push(matcher.group() ?? '');
  return listOf(found);
}

export const regexLibrary = library({
  find: [
    [
      'string_find_string',
      'string.(string) string',
      (text: string, pattern: string) => {
        const matcher = compileRegex(pattern).matcher(text);
        return matcher.find() ? (matcher.group() ?? '') : '';
      },
    ],
  ],
  findAll: [
    ['string_find_all_string', 'string.(string) list<string>', (text: string, pattern: string) => findAll(text, pattern, -1n)],
    ['string_find_all_string_int', 'string.(string, int) list<string>', findAll],
  ],
});
