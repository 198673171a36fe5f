import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { CertificateSigningRequest } from '../../api/generated/types.ts';
import type { ParsedRequest } from './request.ts';

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

const SUBJECT_ALT_NAME = '2.5.29.17';

/** Parses spec.request. Throws an Error that says what is wrong with it, also where its signature is not that of its key. */
export async function parseRequest(object: CertificateSigningRequest): Promise<ParsedRequest> {
  let csr: x509.Pkcs10CertificateRequest;
  try {
    csr = new x509.Pkcs10CertificateRequest(Buffer.from(object.spec.request, 'base64').toString());
  } catch (error) {
    throw new Error(`unable to parse csr "${object.metadata.name}": ${(error as Error).message}`);
  }
  if (!(await csr.verify())) throw new Error(`unable to parse csr "${object.metadata.name}": its signature does not match its key`);
  const extension = csr.getExtension(SUBJECT_ALT_NAME);
  const san = extension && new x509.SubjectAlternativeNameExtension(extension.rawData);
  const names = (type: string) => (san?.names.items ?? []).filter((n) => n.type === type).map((n) => n.value);
  const subject = csr.subjectName;
  return {
    csr,
    commonName: subject.getField('CN').at(-1) ?? '',
    organizations: subject.getField('O'),
    dns: names('dns'),
    ips: names('ip'),
    emails: names('email'),
    uris: names('url'),
  };
}
