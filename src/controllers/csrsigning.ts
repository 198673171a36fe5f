import type { CertificateSigningRequest } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import {
  API_CLIENT,
  apiClientProblem,
  hasCondition,
  isApproved,
  KUBELET_CLIENT,
  KUBELET_SERVING,
  kubeletClientProblem,
  kubeletServingProblem,
  LEGACY_UNKNOWN,
  type ParsedRequest,
} from './certificates/request.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { timestamp } from './timestamps.ts';

/** The longest life of a certificate, and its life where the request asks for none; upstream's cluster-signing-duration. Milliseconds. */
const MAX_DURATION = 365 * 24 * 3600_000;
const MIN_DURATION = 10 * 60_000;

const problems: Record<string, (request: ParsedRequest, usages: string[]) => string | undefined> = {
  [KUBELET_CLIENT]: kubeletClientProblem,
  [KUBELET_SERVING]: kubeletServingProblem,
  [API_CLIENT]: (_, usages) => apiClientProblem(usages),
  [LEGACY_UNKNOWN]: () => undefined,
};

/** Signs approved requests for the signers of kubernetes.io. Watches requests. ca is PEM. */
export function startCsrSigningController(context: ControllerContext, ca: { cert: string; key: string }): Controller {
  const { client, clock, informers } = context;
  let signer: ReturnType<typeof loadSigner> | undefined;
  const requests = informers.informer(resources.certificatesigningrequests);
  const loop = startReconciler(context, { name: 'certificatesigningrequest-signing-controller', workers: 5, waitFor: [requests], reconcile });
  const enqueue = (csr: CertificateSigningRequest) => loop.enqueue(csr.metadata.name);
  requests.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const csr = requests.get(name);
    const findProblem = problems[csr?.spec.signerName ?? ''];
    if (!csr || !findProblem || csr.status?.certificate || !isApproved(csr) || hasCondition(csr, 'Failed')) return;
    const usages = csr.spec.usages ?? [];
    const { authority, parseRequest } = await (signer ??= loadSigner(ca));
    const request = await parseRequest(csr).catch((error: Error) => error);
    const problem = request instanceof Error ? request.message : findProblem(request, usages);
    if (problem) return fail(csr, problem);
    const { csr: pkcs10 } = request as ParsedRequest;
    const pem = await authority.sign(pkcs10, usages, durationOf(csr), clock.now());
    const status = { ...csr.status, certificate: Buffer.from(pem).toString('base64') };
    await client.update(resources.certificatesigningrequests, { ...csr, status }, { subresource: 'status' });
  }

  async function fail(csr: CertificateSigningRequest, message: string): Promise<void> {
    const now = timestamp(clock);
    const condition = { type: 'Failed', status: 'True', reason: 'SignerValidationFailure', message, lastUpdateTime: now, lastTransitionTime: now };
    const status = { ...csr.status, conditions: [...(csr.status?.conditions ?? []), condition] };
    await client.update(resources.certificatesigningrequests, { ...csr, status }, { subresource: 'status' });
  }
}

/** Loaded when it is first needed: many clusters never are asked for a certificate. */
async function loadSigner(ca: { cert: string; key: string }) {
  const [{ Authority }, { parseRequest }] = await Promise.all([import('./certificates/authority.ts'), import('./certificates/parse.ts')]);
  return { authority: new Authority(ca.cert, ca.key), parseRequest };
}

function durationOf(csr: CertificateSigningRequest): number {
  const wanted = csr.spec.expirationSeconds;
  return wanted === undefined ? MAX_DURATION : Math.min(MAX_DURATION, Math.max(MIN_DURATION, wanted * 1000));
}
