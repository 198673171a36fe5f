import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { caCertHash, ensurePki } from './pki.ts';

const dir = mkdtempSync(join(tmpdir(), 'kumulus-pki-'));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

it('makes a hierarchy that OpenSSL accepts, and keeps it', async () => {
  const names = { dnsNames: ['kubernetes', 'localhost'], ips: ['127.0.0.1', '10.96.0.1'] };
  const first = await ensurePki(dir, names);
  const ca = new X509Certificate(first.ca.cert);
  for (const { cert } of [first.apiserver, first.admin, first.kubeletClient]) expect(new X509Certificate(cert).verify(ca.publicKey)).toBe(true);
  expect(new X509Certificate(first.apiserver.cert).checkIP('10.96.0.1')).toBe('10.96.0.1');
  expect(new X509Certificate(first.admin.cert).subject).toBe('O=system:masters\nCN=kubernetes-admin');
  const again = await ensurePki(dir, names);
  expect(again).toEqual(first);
  const more = await ensurePki(dir, { ...names, ips: [...names.ips, '10.0.0.9'] });
  expect(more.apiserver.cert).not.toBe(first.apiserver.cert);
  expect(more.ca).toEqual(first.ca);
  expect(caCertHash(first.ca.cert)).toMatch(/^sha256:[0-9a-f]{64}$/);
});
