import type { CertificateSigningRequest, Node, SubjectAccessReview } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import {
  hasCondition,
  KUBELET_CLIENT,
  KUBELET_SERVING,
  kubeletClientProblem,
  kubeletServingProblem,
  type ParsedRequest,
} from './certificates/request.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import { timestamp } from './timestamps.ts';

const NODE_USER = 'system:node:';

/**
 * Approves kubelets' requests: client certificates where RBAC grants nodeclient or selfnodeclient, and serving certificates whose
 * names are all addresses of the node that asks (upstream leaves those to an approver of the cloud). Watches requests and nodes.
 */
export function startCsrApprovingController(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const log = context.log.child({ controller: 'certificatesigningrequest-approving-controller' });
  const requests = informers.informer(resources.certificatesigningrequests);
  const nodes = informers.informer(resources.nodes);
  requests.addIndex('user', (csr) => [csr.spec.username ?? '']);
  const loop = startReconciler(context, {
    name: 'certificatesigningrequest-approving-controller',
    workers: 5,
    waitFor: [requests, nodes],
    reconcile,
  });
  const enqueue = (csr: CertificateSigningRequest) => loop.enqueue(csr.metadata.name);
  // A node's addresses may come after its kubelet has asked.
  const enqueueOf = (node: Node) => requests.byIndex('user', NODE_USER + node.metadata.name).forEach(enqueue);
  requests.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  nodes.addHandlers({
    onAdd: enqueueOf,
    onUpdate(before, after) {
      if (!semanticEqual(before.status?.addresses, after.status?.addresses)) enqueueOf(after);
    },
  });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const csr = requests.get(name);
    if (!csr || csr.status?.certificate || hasCondition(csr, 'Approved') || hasCondition(csr, 'Denied')) return;
    const { signerName, usages } = csr.spec;
    if (signerName !== KUBELET_CLIENT && signerName !== KUBELET_SERVING) return;
    const request = await parse(csr);
    if (!request) return;
    if (signerName === KUBELET_SERVING) {
      if (!kubeletServingProblem(request, usages) && namesItself(csr, request))
        await approve(csr, 'Auto approving kubelet serving certificate for addresses of the node.');
      return;
    }
    if (kubeletClientProblem(request, usages)) return;
    if (csr.spec.username === request.commonName && (await mayCreate(csr, 'selfnodeclient'))) {
      await approve(csr, 'Auto approving self kubelet client certificate after SubjectAccessReview.');
    } else if (await mayCreate(csr, 'nodeclient')) await approve(csr, 'Auto approving kubelet client certificate after SubjectAccessReview.');
    else throw new Error(`recognized csr "${name}" but subject access review was not approved`);
  }

  async function parse(csr: CertificateSigningRequest): Promise<ParsedRequest | undefined> {
    try {
      // Loaded when it is first needed: many clusters never are asked for a certificate.
      const { parseRequest } = await import('./certificates/parse.ts');
      return await parseRequest(csr);
    } catch (error) {
      log.warn({ csr: csr.metadata.name, err: error }, 'a certificate signing request cannot be read');
      return undefined;
    }
  }

  /** Whether a node asks for its own name, and for nothing but addresses that its Node object has. */
  function namesItself(csr: CertificateSigningRequest, request: ParsedRequest): boolean {
    const { username = '', groups = [] } = csr.spec;
    if (!username.startsWith(NODE_USER) || !groups.includes('system:nodes') || request.commonName !== username) return false;
    const addresses = new Set((nodes.get(username.slice(NODE_USER.length))?.status?.addresses ?? []).map((a) => a.address));
    return [...request.dns, ...request.ips].every((name) => addresses.has(name));
  }

  async function mayCreate(csr: CertificateSigningRequest, subresource: string): Promise<boolean> {
    const { username: user, uid, groups, extra } = csr.spec;
    const resourceAttributes = { group: 'certificates.k8s.io', resource: 'certificatesigningrequests', verb: 'create', subresource, version: '*' };
    const review: SubjectAccessReview = await client.create(resources.subjectaccessreviews, {
      metadata: {},
      spec: { user, uid, groups, extra, resourceAttributes },
    });
    return review.status?.allowed ?? false;
  }

  async function approve(csr: CertificateSigningRequest, message: string): Promise<void> {
    const now = timestamp(clock);
    const condition = { type: 'Approved', status: 'True', reason: 'AutoApproved', message, lastUpdateTime: now, lastTransitionTime: now };
    const status = { ...csr.status, conditions: [...(csr.status?.conditions ?? []), condition] };
    await client.update(resources.certificatesigningrequests, { ...csr, status }, { subresource: 'approval' });
  }
}
