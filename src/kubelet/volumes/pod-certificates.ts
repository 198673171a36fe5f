import type { Logger } from 'pino';
import { resources } from '../../api/generated/resources.ts';
import type { Pod, PodCertificateProjection, PodCertificateRequest } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import { type Clock, sleep } from '../../client/clock.ts';
import type { EventRecorder } from '../../client/events.ts';
import type { Informer } from '../../client/informer.ts';
import { createInformerFactory } from '../../client/informers.ts';
import { certificatesOf } from './certificate-chain.ts';
import { newPodKey } from './pod-key.ts';

export interface PodCertificate {
  /** PEM. */
  privateKey: string;
  chain: string;
  /** When get is to be called again; milliseconds since the epoch. */
  refreshAt: number;
}

export interface PodCertificateOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  recorder: EventRecorder;
  signal: AbortSignal;
  nodeName: string;
  /** Of this node's object, as soon as it is registered. */
  nodeUid(): string | undefined;
  onChange(uid: string): void;
}

interface Pending {
  name: string;
  privateKey: string;
  abandonAt: number;
}
interface Issued {
  privateKey: string;
  chain: string;
  beginRefreshAt: number;
  notAfter: number;
  /** Of what has been told already. */
  told: Set<string>;
}
interface Entry {
  pending?: Pending;
  issued?: Issued;
  /** The signer's final word. */
  refused?: string;
  work?: Promise<void>;
}

const minuteMs = 60_000;
/** Upstream's: after so long a request that is not there is taken for deleted. */
const abandonAfterMs = 10 * minuteMs;
const overdueAfterMs = 10 * minuteMs;
/** How long a volume waits for a signer before it fails, to be set up again when the answer comes. */
const issueTimeoutMs = 5_000;

/** So that the pods of a node do not all renew at once. */
const jitterMs = () => Math.random() * 5 * minuteMs;

/** Certificates of the pods' own: asked for with PodCertificateRequests, answered by signers, renewed when the signer said to. */
export class PodCertificates {
  private readonly o: PodCertificateOptions;
  private readonly entries = new Map<string, Entry>();
  private readonly waiting = new Set<() => void>();
  private requests: Informer<PodCertificateRequest> | undefined;

  constructor(o: PodCertificateOptions) {
    this.o = o;
  }

  /** Key and certificate of one source of one volume. Throws while there is none. */
  async get(pod: Pod, volume: string, source: number, wanted: PodCertificateProjection, signal: AbortSignal): Promise<PodCertificate> {
    const key = `${pod.metadata.uid}/${volume}/${source}`;
    const entry = this.entries.get(key) ?? {};
    this.entries.set(key, entry);
    const deadline = this.o.clock.now() + issueTimeoutMs;
    for (;;) {
      entry.work ??= this.step(pod, entry, wanted).finally(() => {
        delete entry.work;
      });
      await entry.work;
      if (entry.issued) return this.serve(pod, entry, entry.issued);
      if (entry.refused) throw new Error(entry.refused);
      const left = deadline - this.o.clock.now();
      if (left <= 0) throw new Error('credential bundle is not issued yet');
      await this.change(left, signal);
    }
  }

  forget(uid: string): void {
    for (const key of this.entries.keys()) if (key.startsWith(`${uid}/`)) this.entries.delete(key);
  }

  /** Asks where it is time to ask, and takes the answer where there is one. */
  private async step(pod: Pod, entry: Entry, wanted: PodCertificateProjection): Promise<void> {
    const now = this.o.clock.now();
    const requests = this.watch();
    const due = !entry.refused && (!entry.issued || now >= entry.issued.beginRefreshAt);
    if (!entry.pending && due) {
      try {
        entry.pending = await this.ask(pod, wanted);
      } catch (error) {
        // The old one serves on.
        if (!entry.issued) throw error;
        this.o.log.warn({ err: error, pod: `${pod.metadata.namespace}/${pod.metadata.name}` }, 'cannot renew a certificate of a pod, will retry');
      }
    }
    if (!entry.pending) return;
    const request = requests.get(`${pod.metadata.namespace}/${entry.pending.name}`);
    if (request) this.answer(pod, entry, entry.pending, request);
    else if (now > entry.pending.abandonAt) delete entry.pending;
  }

  private async ask(pod: Pod, wanted: PodCertificateProjection): Promise<Pending> {
    const { client, clock, nodeName, signal } = this.o;
    const { namespace, name, uid } = pod.metadata;
    const serviceAccountName = pod.spec.serviceAccountName ?? 'default';
    const nodeUID = this.o.nodeUid();
    if (!nodeUID) throw new Error(`node ${nodeName} is not registered yet`);
    const account = await client.get(resources.serviceaccounts, { namespace, name: serviceAccountName }, { signal });
    const { privateKey, stubRequest } = await newPodKey(wanted.keyType);
    const request = await client.create(
      resources.podcertificaterequests,
      {
        metadata: { namespace, generateName: 'req-', ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name, uid }] },
        spec: {
          signerName: wanted.signerName,
          podName: name,
          podUID: uid,
          serviceAccountName,
          serviceAccountUID: account.metadata.uid,
          nodeName,
          nodeUID,
          ...(wanted.maxExpirationSeconds === undefined ? {} : { maxExpirationSeconds: wanted.maxExpirationSeconds }),
          stubPKCS10Request: stubRequest,
          ...(wanted.userAnnotations ? { unverifiedUserAnnotations: wanted.userAnnotations } : {}),
        },
      } as PodCertificateRequest,
      { signal },
    );
    return { name: request.metadata.name, privateKey, abandonAt: clock.now() + abandonAfterMs + jitterMs() };
  }

  private answer(pod: Pod, entry: Entry, { privateKey }: Pending, request: PodCertificateRequest): void {
    const { status } = request;
    const condition = status?.conditions?.find((c) => c.type === 'Issued' || c.type === 'Denied' || c.type === 'Failed');
    if (!condition) return;
    delete entry.pending;
    if (condition.type === 'Issued') {
      entry.issued = {
        privateKey,
        chain: certificatesOf(status?.certificateChain ?? '').join(''),
        beginRefreshAt: Date.parse(status?.beginRefreshAt ?? '') + jitterMs(),
        notAfter: Date.parse(status?.notAfter ?? ''),
        told: new Set(),
      };
      return;
    }
    const what = condition.type === 'Denied' ? 'was denied' : 'failed';
    entry.refused = `PodCertificateRequest ${request.metadata.namespace}/${request.metadata.name} ${what}, reason="${condition.reason}", message="${condition.message}"`;
    this.o.recorder.event(pod, 'Warning', condition.type, entry.refused);
  }

  private serve(pod: Pod, entry: Entry, issued: Issued): PodCertificate {
    const now = this.o.clock.now();
    const moments: [number, string, string][] = [
      [issued.beginRefreshAt + overdueAfterMs, 'CertificateOverdueForRefresh', 'PodCertificate refresh overdue'],
      [issued.notAfter, 'CertificateExpired', 'PodCertificate expired'],
    ];
    for (const [at, reason, message] of moments) {
      if (now <= at || issued.told.has(reason)) continue;
      issued.told.add(reason);
      this.o.recorder.event(pod, 'Warning', reason, message);
    }
    const next = [issued.beginRefreshAt, entry.pending?.abandonAt ?? now + minuteMs, ...moments.map(([at]) => at)].filter((at) => at > now);
    return {
      privateKey: issued.privateKey,
      chain: issued.chain,
      refreshAt: now < issued.beginRefreshAt ? issued.beginRefreshAt : Math.min(...next) + 1,
    };
  }

  /** Resolves when a request of this node has changed, or the time is over. */
  private async change(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const wake = () => over.abort();
    this.waiting.add(wake);
    await sleep(this.o.clock, timeoutMs, AbortSignal.any([signal, over.signal])).catch(() => {});
    this.waiting.delete(wake);
    signal.throwIfAborted();
  }

  private watch(): Informer<PodCertificateRequest> {
    if (this.requests) return this.requests;
    const informer = createInformerFactory(this.o.client, this.o).informer(resources.podcertificaterequests, {
      fieldSelector: `spec.nodeName=${this.o.nodeName}`,
    });
    const tell = (request: PodCertificateRequest) => {
      const prefix = `${request.spec.podUID}/`;
      const mine = [...this.entries].some(([key, entry]) => key.startsWith(prefix) && entry.pending?.name === request.metadata.name);
      for (const wake of this.waiting) wake();
      if (mine) this.o.onChange(request.spec.podUID);
    };
    informer.addHandlers({ onAdd: tell, onUpdate: (_before, request) => tell(request), onDelete: tell });
    this.requests = informer;
    return informer;
  }
}
