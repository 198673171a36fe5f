import { pino } from 'pino';
import { openMemoryStore } from '../../store/memory.ts';
import { startTestServer } from '../../apiserver/testing.ts';
import type { Pod } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import type { KubeObject, ResourceType } from '../../api/object.ts';
import type { Client } from '../../client/client.ts';
import { type Clock, systemClock } from '../../client/clock.ts';
import { createFakeClient } from '../../client/fake.ts';
import type { InformerFactory } from '../../client/informer.ts';
import { createInformerFactory } from '../../client/informers.ts';
import type { ControllerContext } from '../controller.ts';

/** What a controller runs against in a test, and the hands of everybody else in the cluster. */
export interface Bench {
  /** The cluster as its administrator sees it. */
  admin: Client;
  clock: Clock;
  /** The administrator's. */
  informers: InformerFactory;
  recorded: { about: KubeObject; type: string; reason: string; message: string }[];
  /** A context of its own for a controller: on the real API server, as its service account and with the rights of its role. */
  as(serviceAccount: string): ControllerContext;
  all<T>(type: ResourceType<T>): Promise<T[]>;
  get<T extends KubeObject>(type: ResourceType<T>, name: string): Promise<T>;
  create<T extends KubeObject>(type: ResourceType<T>, object: unknown): Promise<T>;
  /** A merge patch, of a subresource where one is named. */
  patch<T extends KubeObject>(type: ResourceType<T>, name: string, patch: unknown, subresource?: string): Promise<T>;
  remove<T extends KubeObject>(type: ResourceType<T>, name: string, options?: Parameters<Client['delete']>[2]): Promise<void>;
  /** Kubelets of all nodes: what is not held back becomes running and ready, what is deleted goes. */
  kubelet: FakeKubelet;
  stop(): Promise<void>;
}

export interface FakeKubelet {
  /** Pods for which this holds are left alone. */
  holdBack(when: (pod: Pod) => boolean): void;
  /** Has them looked at again. */
  release(): void;
  start(): void;
}

export interface Backend {
  name: string;
  open(options?: { clock?: Clock }): Promise<Bench>;
}

const namespace = 'default';

/** The in-memory client, and the real API server over a store in memory. */
export const backends: Backend[] = [
  {
    name: 'the in-memory client',
    async open({ clock = systemClock } = {}) {
      const client = createFakeClient([], { clock });
      return bench(client, () => client, client, clock, async () => {});
    },
  },
  {
    name: 'the API server',
    async open({ clock = systemClock } = {}) {
      const store = openMemoryStore();
      const server = await startTestServer({ store });
      const admin = server.localClient({ name: 'kubernetes-admin', groups: ['system:masters'] });
      await admin.create(resources.serviceaccounts, { metadata: { namespace, name: 'default' } } as never);
      const groups = ['system:serviceaccounts', 'system:serviceaccounts:kube-system', 'system:authenticated'];
      const clientOf = (account: string) => server.localClient({ name: `system:serviceaccount:kube-system:${account}`, groups });
      // Informers are shared: as upstream's, they read with the controller-manager's own identity.
      const reader = server.localClient({ name: 'system:kube-controller-manager', groups: ['system:authenticated'] });
      return bench(admin, clientOf, reader, clock, async () => {
        await server.stop(0);
        await store.close();
      });
    },
  },
];

function bench(admin: Client, clientOf: (account: string) => Client, reader: Client, clock: Clock, close: () => Promise<void>): Bench {
  const controller = new AbortController();
  const { signal } = controller;
  const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });
  const recorded: Bench['recorded'] = [];
  const keyIn = <T>(type: ResourceType<T>, name: string) => (type.namespaced ? { namespace, name } : { name });
  const contextOf = (client: Client): ControllerContext => ({
    client,
    informers: createInformerFactory(client === admin ? admin : reader, { log, clock, signal }),
    clock,
    events: { event: (about, type, reason, message) => void recorded.push({ about, type, reason, message }) },
    log,
    signal,
  });
  const own = contextOf(admin);
  const kubelet = fakeKubelet(own);
  return {
    admin,
    informers: own.informers,
    clock,
    recorded,
    kubelet,
    as: (account) => contextOf(clientOf(account)),
    all: async (type) => (await admin.list(type)).items,
    get: (type, name) => admin.get(type, keyIn(type, name)),
    create: (type, object) => {
      const { metadata, ...rest } = object as KubeObject;
      return admin.create(type, { ...rest, metadata: { ...(type.namespaced ? { namespace } : {}), ...metadata } } as never);
    },
    patch: (type, name, patch, subresource) => admin.patch(type, keyIn(type, name), 'merge', patch, { subresource }),
    async remove(type, name, options) {
      await admin.delete(type, keyIn(type, name), options);
    },
    async stop() {
      controller.abort(new Error('the test is over'));
      await close();
    },
  };
}

function fakeKubelet(context: ControllerContext): FakeKubelet {
  const { client, informers, clock } = context;
  let held: (pod: Pod) => boolean = () => false;
  let started = false;
  const write = async (pod: Pod) => {
    if (held(pod)) return;
    if (pod.metadata.deletionTimestamp) return void (await client.delete(resources.pods, pod.metadata, { gracePeriodSeconds: 0 }));
    if (pod.status?.phase !== 'Pending') return;
    const lastTransitionTime = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
    const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime }];
    const status = { ...pod.status, phase: 'Running', conditions, startTime: lastTransitionTime };
    await client.update(resources.pods, { ...pod, status }, { subresource: 'status' });
  };
  const look = (pod: Pod) => {
    write(pod).catch(() => {
      // Another writer was faster: the next event brings the pod again.
    });
  };
  return {
    holdBack(when) {
      held = when;
    },
    release() {
      held = () => false;
      if (started) for (const pod of informers.informer(resources.pods).list()) look(pod);
    },
    start() {
      started = true;
      informers.informer(resources.pods).addHandlers({ onAdd: look, onUpdate: (_, pod) => look(pod) });
    },
  };
}

