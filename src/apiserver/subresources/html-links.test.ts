import { expect, it } from 'vitest';
import { rewriteLinks, throughProxy } from './html-links.ts';

const prefix = '/api/v1/namespaces/default/pods/web:80/proxy';
const host = '10.0.0.1:80';

it('leads paths from the root and URLs of the own host through the proxy, and leaves all others', () => {
  const to = (url: string) => throughProxy(url, prefix, host);
  expect(to('/a?b#c')).toBe(`${prefix}/a?b#c`);
  expect(to('http://10.0.0.1:80/a')).toBe(`${prefix}/a`);
  expect(to('http://10.0.0.1:80')).toBe(`${prefix}/`);
  expect(to(`${prefix}/a`)).toBe(`${prefix}/a`);
  for (const other of ['a/b', '../a', '#top', '//cdn.example.com/x.js', 'http://10.0.0.1:8080/a', 'http://10x0.0.1:80/a', 'mailto:a@b']) expect(to(other)).toBe(other);
});

it('finds the attributes that hold URLs, however they are written', () => {
  expect(rewriteLinks(`<a class="/x" href="/rewriteme">test</a><IMG SRC='/i.png'><form action=/go><p title="/no">`, prefix, host)).toBe(
    `<a class="/x" href="${prefix}/rewriteme">test</a><IMG SRC='${prefix}/i.png'><form action=${prefix}/go><p title="/no">`,
  );
  expect(rewriteLinks('1 < 2 and <a>b</a>', prefix, host)).toBe('1 < 2 and <a>b</a>');
});
