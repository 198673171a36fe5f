import 'reflect-metadata';
import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { describe, expect, test } from 'vitest';
import { certificationRequest } from '../../api/kinds/certificates.ts';
import { newPodKey } from './pod-key.ts';

x509.cryptoProvider.set(webcrypto as never);

describe('keys of pods', () => {
  test.each([
    ['RSA3072', 'rsa'],
    ['RSA4096', 'rsa'],
    ['ECDSAP256', 'ec'],
    ['ECDSAP384', 'ec'],
    ['ECDSAP521', 'ec'],
    ['ED25519', 'ed25519'],
  ])('%s: another reader finds the request well signed, as the API server does', async (keyType, asymmetricKeyType) => {
    const { privateKey, stubRequest } = await newPodKey(keyType);
    const der = Buffer.from(stubRequest, 'base64');
    const read = new x509.Pkcs10CertificateRequest(der);
    expect(read.subject).toBe('');
    expect(await read.verify()).toBe(true);
    const own = createPublicKey(createPrivateKey(privateKey));
    expect(own.asymmetricKeyType).toBe(asymmetricKeyType);
    const request = certificationRequest(der)!;
    expect(request.verified).toBe(true);
    expect(request.key.equals(own)).toBe(true);
  });

  test('a request with a signature of other bytes is not verified; what is none does not parse', async () => {
    const { stubRequest } = await newPodKey('ED25519');
    const der = Buffer.from(stubRequest, 'base64');
    der[der.length - 1]! ^= 1;
    expect(certificationRequest(der)).toMatchObject({ verified: false });
    expect(certificationRequest(der.subarray(0, 20))).toBeUndefined();
    expect(certificationRequest(Buffer.from('no request'))).toBeUndefined();
  });

  test('a type that nobody knows', async () => {
    await expect(newPodKey('DSA')).rejects.toThrow('unknown key type "DSA"');
  });
});
