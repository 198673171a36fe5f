import { sameJson } from '../../api/equality.ts';
import { forbidden, invalid } from '../../api/errors.ts';
import type { CertificateSigningRequest } from '../../api/generated/types.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

const isRequest = (r: AdmissionRequest) => r.group === 'certificates.k8s.io' && r.resource === 'certificatesigningrequests';
const signerOf = (r: AdmissionRequest): string => ((r.old ?? r.object) as CertificateSigningRequest).spec?.signerName ?? '';

/** The verb on the signer itself, or on all signers of its domain. */
async function maySign(r: AdmissionRequest, verb: 'approve' | 'sign'): Promise<boolean> {
  const signer = signerOf(r);
  const asked = { user: r.call.user, verb, group: 'certificates.k8s.io', resource: 'signers', subresource: '', namespace: '' };
  const allowed = async (name: string) => (await r.api.authorizer.authorize({ ...asked, name })).allowed;
  return (await allowed(signer)) || (await allowed(`${signer.split('/')[0]}/*`));
}

export const certificateApproval: AdmissionPlugin = {
  name: 'CertificateApproval',
  async validate(r) {
    if (!isRequest(r) || r.subresource !== 'approval' || r.operation !== 'UPDATE') return;
    if (!(await maySign(r, 'approve')))
      throw forbidden(r.call.target.subject, r.name, `user not permitted to approve requests with signerName "${signerOf(r)}"`);
  },
};

export const certificateSigning: AdmissionPlugin = {
  name: 'CertificateSigning',
  async validate(r) {
    if (!isRequest(r) || r.subresource !== 'status' || r.operation !== 'UPDATE') return;
    const before = (r.old as CertificateSigningRequest).status;
    const after = (r.object as CertificateSigningRequest).status;
    if (before?.certificate === after?.certificate && sameJson(before?.conditions, after?.conditions)) return;
    if (!(await maySign(r, 'sign'))) throw forbidden(r.call.target.subject, r.name, `user not permitted to sign requests with signerName "${signerOf(r)}"`);
  },
};

/** The answer to a pod's request comes from who may sign for its signer. */
export const podCertificateSigning: AdmissionPlugin = {
  name: 'PodCertificateSigning',
  async validate(r) {
    if (r.group !== 'certificates.k8s.io' || r.resource !== 'podcertificaterequests' || r.subresource !== 'status' || r.operation !== 'UPDATE')
      return;
    if (sameJson(r.old.status ?? {}, r.object.status ?? {}) || (await maySign(r, 'sign'))) return;
    const detail = `User "${r.call.user.name}" is not permitted to "sign" for signer "${signerOf(r)}"`;
    throw invalid(r.call.target.served, r.name, [{ type: 'FieldValueForbidden', field: 'spec.signerName', detail }]);
  },
};

/** Nobody asks for a client certificate of the group that may do everything. */
export const certificateSubjectRestriction: AdmissionPlugin = {
  name: 'CertificateSubjectRestriction',
  async validate(r) {
    if (!isRequest(r) || r.subresource || r.operation !== 'CREATE') return;
    const request = r.object as CertificateSigningRequest;
    if (request.spec?.signerName !== 'kubernetes.io/kube-apiserver-client') return;
    // The library is slow to load, and certificates are rare.
    await import('reflect-metadata');
    const { Pkcs10CertificateRequest } = await import('@peculiar/x509');
    let organizations: string[];
    try {
      organizations = new Pkcs10CertificateRequest(Buffer.from(String(request.spec.request), 'base64').toString('utf8')).subjectName.getField('O');
    } catch {
      // Validation says what is wrong with it.
      return;
    }
    if (organizations.includes('system:masters')) {
      throw forbidden(r.call.target.subject, r.name, `use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed`);
    }
  },
};

/** Who asks is recorded by the server, not claimed by the client. */
export const certificateRequester: AdmissionPlugin = {
  name: 'CertificateRequester',
  admit(r) {
    if (!isRequest(r) || r.subresource) return;
    const request = r.object as CertificateSigningRequest;
    if (!request?.spec) return;
    if (r.operation === 'CREATE') {
      const { user } = r.call;
      request.spec.username = user.name;
      request.spec.groups = [...user.groups];
      delete request.spec.uid;
      delete request.spec.extra;
      if (user.uid) request.spec.uid = user.uid;
      if (user.extra && Object.keys(user.extra).length) request.spec.extra = { ...user.extra };
    }
  },
};
