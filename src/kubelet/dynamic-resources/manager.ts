import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { resources } from '../../api/generated/resources.ts';
import type { Container, Pod, ResourceV1ResourceClaim as ResourceClaim } from '../../api/generated/types.ts';
import { claimNameOf } from '../../api/resource-claims.ts';
import { KeyedLock } from '../keyed-lock.ts';
import type { ClaimReference, PreparedDevice } from './plugin-api.ts';
import { type Plugin, Plugins, type PluginsOptions } from './plugins.ts';

/** A claim that drivers have prepared, or were asked to; kept on disk so that nothing stays prepared after a restart. */
interface PreparedClaim extends ClaimReference {
  /** Devices by driver; null: it was asked and has not answered. One that was never asked has nothing to undo. */
  drivers: Record<string, PreparedDevice[] | null>;
  complete?: boolean;
  pods: string[];
}

/** Prepares the ResourceClaims of pods through the drivers of their devices, and takes that back when the last pod of a claim has ended. */
export class DynamicResources {
  private readonly plugins: Plugins;
  private readonly o: Omit<PluginsOptions, 'directory'> & { directory: string; root: string };
  private readonly claims = new Map<string, PreparedClaim>();
  /** By claim uid: two pods that share one come one after the other. */
  private readonly locks = new KeyedLock();
  private saving: Promise<void> = Promise.resolve();

  constructor(o: DynamicResources['o']) {
    this.o = o;
    this.plugins = new Plugins(o);
  }

  async start(): Promise<void> {
    const text = await readFile(this.file, 'utf8').catch(() => '[]');
    for (const claim of JSON.parse(text) as PreparedClaim[]) this.claims.set(claim.uid, claim);
    await this.plugins.start();
  }

  private get file(): string {
    return join(this.o.root, 'dra_manager_state');
  }

  private save(): Promise<void> {
    this.saving = this.saving
      .catch(() => {})
      .then(async () => {
        await writeFile(`${this.file}.new`, JSON.stringify([...this.claims.values()]), { mode: 0o600 });
        await rename(`${this.file}.new`, this.file);
      });
    return this.saving;
  }

  /** Everything that the pod's containers will ask for. Throws where a claim is not the pod's or a driver fails. */
  async prepare(pod: Pod, signal: AbortSignal): Promise<void> {
    for (const entry of pod.spec.resourceClaims ?? []) {
      const name = claimNameOf(pod, entry);
      if (name === null) continue;
      if (name === undefined) throw new Error(`claim ${entry.name}: ResourceClaim not created yet`);
      const known = this.preparedOf(pod, name);
      if (known?.complete && known.pods.includes(pod.metadata.uid)) continue;
      const claim = await this.o.client.get(resources.resourceclaims, { namespace: pod.metadata.namespace, name }, { signal });
      if (!claim.status?.allocation) throw new Error(`resource claim ${name} is not allocated`);
      if (!claim.status.reservedFor?.some((consumer) => consumer.uid === pod.metadata.uid))
        throw new Error(`pod ${pod.metadata.name}(${pod.metadata.uid}) is not allowed to use resource claim ${name}(${claim.metadata.uid})`);
      await this.locks.run(claim.metadata.uid, () => this.prepareClaim(pod, claim));
    }
  }

  private async prepareClaim(pod: Pod, claim: ResourceClaim): Promise<void> {
    const { namespace, name, uid } = claim.metadata;
    const drivers = new Set((claim.status!.allocation!.devices?.results ?? []).map((r) => r.driver));
    const known: PreparedClaim = this.claims.get(uid) ?? { namespace, name, uid, drivers: {}, pods: [] };
    // Without all of its drivers nothing is begun.
    const plugins = new Map([...drivers].map((driver) => [driver, this.plugin(driver)]));
    if (!known.pods.includes(pod.metadata.uid)) known.pods.push(pod.metadata.uid);
    this.claims.set(uid, known);
    for (const [driver, plugin] of plugins) {
      if (known.drivers[driver]) continue;
      known.drivers[driver] = null;
      // Before the driver is asked: whatever it does has to be undone.
      await this.save();
      const { nodePrepareResources } = await import('./plugin-api.ts');
      const answers = await nodePrepareResources(plugin, [{ namespace, name, uid }]).catch((error: Error) => {
        throw new Error(`NodePrepareResources failed: ${error.message}`);
      });
      const answer = answers[uid];
      if (!answer) throw new Error(`NodePrepareResources skipped claim ${namespace}/${name}`);
      if (answer.error) throw new Error(`NodePrepareResources failed for ResourceClaim ${namespace}/${name}: ${answer.error}`);
      known.drivers[driver] = answer.devices;
    }
    known.complete = true;
    await this.save();
  }

  private plugin(driver: string): Plugin {
    const plugin = this.plugins.get(driver);
    if (!plugin) throw new Error(`DRA driver ${driver} is not registered`);
    return plugin;
  }

  private preparedOf(pod: Pod, name: string): PreparedClaim | undefined {
    return [...this.claims.values()].find((c) => c.namespace === pod.metadata.namespace && c.name === name && c.pods.includes(pod.metadata.uid));
  }

  /** The CDI devices (VENDOR/CLASS=NAME) that a container is to have by its resources.claims. */
  devicesOf(pod: Pod, container: Container): string[] {
    const ids: string[] = [];
    for (const { name, request } of container.resources?.claims ?? []) {
      const entry = pod.spec.resourceClaims?.find((one) => one.name === name);
      const claim = entry && claimNameOf(pod, entry);
      const prepared = claim ? this.preparedOf(pod, claim) : undefined;
      for (const device of Object.values(prepared?.drivers ?? {}).flatMap((devices) => devices ?? [])) {
        // A driver names REQUEST or REQUEST/SUBREQUEST, a container the request.
        const concerns = !request || device.requestNames.length === 0 || device.requestNames.some((one) => one.split('/')[0] === request);
        if (concerns) ids.push(...device.cdiDeviceIds);
      }
    }
    return [...new Set(ids)];
  }

  /** Pods that have something prepared. */
  users(): Set<string> {
    return new Set([...this.claims.values()].flatMap((claim) => claim.pods));
  }

  /** Takes back what the pod had. Idempotent; throws while a driver is away or fails. */
  async unprepare(uid: string): Promise<void> {
    for (const claim of [...this.claims.values()].filter((c) => c.pods.includes(uid)))
      await this.locks.run(claim.uid, () => this.unprepareClaim(claim, uid));
  }

  private async unprepareClaim(claim: PreparedClaim, podUid: string): Promise<void> {
    const { namespace, name, uid } = claim;
    if (claim.pods.every((pod) => pod === podUid)) {
      for (const driver of Object.keys(claim.drivers)) {
        const { nodeUnprepareResources } = await import('./plugin-api.ts');
        const answers = await nodeUnprepareResources(this.plugin(driver), [{ namespace, name, uid }]);
        const answer = answers[uid];
        if (!answer) throw new Error(`NodeUnprepareResources skipped claim ${namespace}/${name}`);
        if (answer.error) throw new Error(`NodeUnprepareResources failed for ResourceClaim ${namespace}/${name}: ${answer.error}`);
        claim.drivers[driver] = null;
      }
      this.claims.delete(uid);
    }
    claim.pods = claim.pods.filter((pod) => pod !== podUid);
    await this.save();
  }
}
