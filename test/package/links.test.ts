/** Every relative link in the documents leads to a file of the repository. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const documents = ['README.md', ...readdirSync(join(root, 'docs')).filter((one) => one.endsWith('.md')).map((one) => `docs/${one}`)];

test.each(documents)('%s', (document) => {
  const text = readFileSync(join(root, document), 'utf8');
  const links = [...text.matchAll(/\]\(([^)\s#]+)[^)]*\)/g)].map((m) => m[1] as string).filter((link) => !/^[a-z]+:/.test(link));
  expect(links.filter((link) => !existsSync(join(root, dirname(document), link)))).toEqual([]);
});

test('the walkthrough has links', () => expect(readFileSync(join(root, 'docs/walkthrough.md'), 'utf8').match(/\]\(\.\.\//g)?.length).toBeGreaterThan(40));
