import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import type { Namespace } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isNamespaceTerminating } from './pod-control.ts';
import { startReconciler } from './reconciler.ts';

/** A ServiceAccount `default` in every namespace. Watches namespaces and ServiceAccounts. */
export function startServiceAccountController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const namespaces = informers.informer(resources.namespaces);
  const accounts = informers.informer(resources.serviceaccounts);
  const loop = startReconciler(context, { name: 'serviceaccount-controller', waitFor: [namespaces, accounts], reconcile });
  const enqueue = (namespace: Namespace) => loop.enqueue(namespace.metadata.name);
  namespaces.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after) });
  accounts.addHandlers({ onDelete: (account) => loop.enqueue(account.metadata.namespace) });
  return loop;

  async function reconcile(namespace: string): Promise<void> {
    if (namespaces.get(namespace)?.status?.phase === 'Terminating' || !namespaces.get(namespace)) return;
    if (accounts.get(`${namespace}/default`)) return;
    try {
      await client.create(resources.serviceaccounts, { metadata: { name: 'default', namespace } });
    } catch (error) {
      if (!isAlreadyExists(error) && !isNamespaceTerminating(error) && !isNotFound(error)) throw error;
    }
  }
}
