import type { Logger } from 'pino';
import { resources } from '../../api/generated/resources.ts';
import type { ClusterTrustBundle, ClusterTrustBundleProjection } from '../../api/generated/types.ts';
import { labelSelectorMatches } from '../../api/selectors.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import type { Informer } from '../../client/informer.ts';
import { createInformerFactory } from '../../client/informers.ts';
import { certificatesOf } from './certificate-chain.ts';

const syncTimeoutMs = 60_000;

/**
 * The trust anchors that volumes project: of one ClusterTrustBundle, or of all of a signer's that a selector picks, each anchor once.
 * All bundles of the cluster are watched, from the first time that a pod of this node wants any.
 */
export class TrustBundles {
  private readonly o: { client: Client; log: Logger; clock: Clock; signal: AbortSignal; onChange(uid: string): void };
  private readonly users = new Map<string, Map<string, ClusterTrustBundleProjection>>();
  private watching: Informer<ClusterTrustBundle> | undefined;

  constructor(o: { client: Client; log: Logger; clock: Clock; signal: AbortSignal; onChange(uid: string): void }) {
    this.o = o;
  }

  /** PEM, without comments and in a stable order; empty where none is there and that is allowed. From now on onChange tells the pod of changes. */
  async get(wanted: ClusterTrustBundleProjection, uid: string, signal: AbortSignal): Promise<string> {
    const bundles = this.watch();
    const projections = this.users.get(uid) ?? new Map<string, ClusterTrustBundleProjection>();
    this.users.set(uid, projections.set(JSON.stringify(wanted), wanted));
    const deadline = AbortSignal.timeout(syncTimeoutMs);
    try {
      await bundles.synced(AbortSignal.any([signal, deadline]));
    } catch (error) {
      if (deadline.aborted) throw new Error('ClusterTrustBundle informer has not yet synced');
      throw error;
    }
    const found = bundles.list().filter((bundle) => selects(wanted, bundle));
    if (found.length === 0 && !wanted.optional)
      throw new Error(
        wanted.name === undefined
          ? 'combination of signerName and labelSelector matched zero ClusterTrustBundles'
          : `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "${wanted.name}" not found`,
      );
    return [...new Set(found.flatMap((bundle) => certificatesOf(bundle.spec.trustBundle)))].sort().join('');
  }

  release(uid: string): void {
    this.users.delete(uid);
  }

  private watch(): Informer<ClusterTrustBundle> {
    if (this.watching) return this.watching;
    const informer = createInformerFactory(this.o.client, this.o).informer(resources.clustertrustbundles);
    const tell = (...versions: ClusterTrustBundle[]) => {
      for (const [uid, projections] of this.users)
        if ([...projections.values()].some((p) => versions.some((bundle) => selects(p, bundle)))) this.o.onChange(uid);
    };
    informer.addHandlers({
      onAdd: (bundle) => {
        if (informer.hasSynced) tell(bundle);
      },
      onUpdate: tell,
      onDelete: (bundle) => tell(bundle),
    });
    this.watching = informer;
    return informer;
  }
}

/** A selector that is not there selects nothing; an empty one all of the signer's. */
function selects(wanted: ClusterTrustBundleProjection, bundle: ClusterTrustBundle): boolean {
  if (wanted.name !== undefined) return bundle.metadata.name === wanted.name;
  return bundle.spec.signerName === wanted.signerName && labelSelectorMatches(wanted.labelSelector, bundle.metadata.labels);
}
