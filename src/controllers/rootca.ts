import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import type { Namespace } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isNamespaceTerminating } from './pod-control.ts';
import { startReconciler } from './reconciler.ts';

const NAME = 'kube-root-ca.crt';
const annotations = {
  'kubernetes.io/description':
    'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.',
};

/** A ConfigMap with the API server's CA in every namespace. Watches namespaces and these ConfigMaps. */
export function startRootCaPublisher(context: ControllerContext, rootCa: string): Controller {
  const { client, informers } = context;
  const namespaces = informers.informer(resources.namespaces);
  const configMaps = informers.informer(resources.configmaps, { fieldSelector: `metadata.name=${NAME}` });
  const loop = startReconciler(context, { name: 'root-ca-certificate-publisher-controller', waitFor: [namespaces, configMaps], reconcile });
  const data = { 'ca.crt': rootCa };
  const enqueue = (namespace: Namespace) => loop.enqueue(namespace.metadata.name);
  const enqueueOf = (object: { metadata: { namespace: string } }) => loop.enqueue(object.metadata.namespace);
  namespaces.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  configMaps.addHandlers({ onUpdate: (_, after) => enqueueOf(after), onDelete: enqueueOf });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const namespace = namespaces.get(name);
    if (!namespace || namespace.status?.phase === 'Terminating') return;
    const existing = configMaps.get(`${name}/${NAME}`);
    if (existing) {
      if (semanticEqual(existing.data, data) && existing.metadata.annotations?.['kubernetes.io/description']) return;
      const metadata = { ...existing.metadata, annotations: { ...existing.metadata.annotations, ...annotations } };
      await client.update(resources.configmaps, { ...existing, metadata, data });
      return;
    }
    try {
      await client.create(resources.configmaps, { metadata: { name: NAME, namespace: name, annotations }, data });
    } catch (error) {
      if (!isAlreadyExists(error) && !isNamespaceTerminating(error) && !isNotFound(error)) throw error;
    }
  }
}
