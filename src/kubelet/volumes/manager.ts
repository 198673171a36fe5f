import { mkdir, readdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { PersistentVolume, PersistentVolumeClaim, Pod, Volume } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import type { EventRecorder } from '../../client/events.ts';
import type { MountedVolume } from '../container-config.ts';
import type { PodVolumes } from '../context.ts';
import type { PodAddresses } from '../field-ref.ts';
import type { Paths } from '../paths.ts';
import { writeAtomically } from './atomic-writer.ts';
import { CsiVolumes, type SetupOptions } from './csi.ts';
import { checkHostPath, setupEmptyDir } from './directories.ts';
import { isBehind, reportGrown } from './growth.ts';
import { isMounted, MountError, mountTmpfs, unmountBelow } from './mounts.ts';
import { applyFsGroup } from './ownership.ts';
import { isPayloadVolume, payloadOf } from './payload.ts';
import { PodCertificates } from './pod-certificates.ts';
import { ReferencedObjects } from './referenced-objects.ts';
import { bindSubPath } from './subpath.ts';
import { TokenManager } from './tokens.ts';
import { TrustBundles } from './trust-bundles.ts';

export interface VolumeManagerOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  recorder: EventRecorder;
  paths: Paths;
  nodeName: string;
  signal: AbortSignal;
  /** Keep the files of secrets and tokens in memory, as upstream does; off where nothing may be mounted. */
  tmpfsForSecrets: boolean;
  addresses(pod: Pod): PodAddresses;
  allocatable(): Record<string, string>;
  /** A volume of this pod is out of date: mount is to be called again. */
  onChange(uid: string): void;
  reportInUse(): Promise<void>;
  /** Of this node's object, as soon as it is registered. */
  nodeUid(): string | undefined;
}

/** The volumes of the node's pods. */
export class VolumeManager implements PodVolumes {
  readonly csi: CsiVolumes;
  private readonly o: VolumeManagerOptions;
  /** ConfigMaps and Secrets of the node's pods, kept current also while the API server is away. */
  readonly objects: ReferencedObjects;
  /** Volumes of claims, by pod uid and volume name, that are set up: nothing has to be asked for them again. */
  private readonly claimed = new Map<string, MountedVolume & { pod: Pod; claim: string }>();
  private readonly tokens: TokenManager;
  private readonly trustBundles: TrustBundles;
  private readonly certificates: PodCertificates;
  private readonly refreshes = new Map<string, () => void>();
  private readonly grouped = new Set<string>();

  constructor(o: VolumeManagerOptions) {
    this.o = o;
    this.objects = new ReferencedObjects(o);
    this.tokens = new TokenManager(o.client, o.clock);
    this.trustBundles = new TrustBundles(o);
    this.certificates = new PodCertificates(o);
    this.csi = new CsiVolumes(o);
  }

  async mount(pod: Pod, signal: AbortSignal): Promise<Map<string, MountedVolume>> {
    const mounted = new Map<string, MountedVolume>();
    const used = usedVolumes(pod);
    const wanted = (pod.spec.volumes ?? []).filter((v) => used.has(v.name));
    const results = await Promise.allSettled(wanted.map(async (v) => mounted.set(v.name, await this.mountOne(pod, v, signal))));
    const failed = results.find((r) => r.status === 'rejected');
    if (!failed) return mounted;
    signal.throwIfAborted();
    throw failed.reason;
  }

  private async mountOne(pod: Pod, volume: Volume, signal: AbortSignal): Promise<MountedVolume> {
    try {
      if (volume.emptyDir) return await this.emptyDir(pod, volume);
      if (volume.hostPath) {
        await checkHostPath(volume.hostPath);
        return { hostPath: volume.hostPath.path, readOnly: false };
      }
      // Pulled as a container's own image is, when one that mounts it starts.
      if (volume.image) return { hostPath: '', readOnly: true, image: volume.image.reference ?? '' };
      if (isPayloadVolume(volume)) return await this.payload(pod, volume, signal);
      if (volume.persistentVolumeClaim || volume.ephemeral) return await this.claim(pod, volume, signal);
      throw new Error('no volume plugin matched');
    } catch (error) {
      if (signal.aborted) throw error;
      const message = error instanceof Error ? error.message : String(error);
      this.o.recorder.event(pod, 'Warning', 'FailedMount', `MountVolume.SetUp failed for volume "${volume.name}" : ${message}`);
      throw new MountError(volume.name, `volume "${volume.name}": ${message}`);
    }
  }

  private async emptyDir(pod: Pod, volume: Volume): Promise<MountedVolume> {
    const path = this.o.paths.volume(pod.metadata.uid, 'empty-dir', volume.name);
    await setupEmptyDir(path, volume.emptyDir!);
    await this.group(pod, path, false);
    return { hostPath: path, readOnly: false };
  }

  /** fsGroup, once for each volume and kubelet run: later files are the pod's own matter. */
  private async group(pod: Pod, path: string, readOnly: boolean): Promise<void> {
    const gid = pod.spec.securityContext?.fsGroup;
    if (gid === undefined || this.grouped.has(path)) return;
    await applyFsGroup(path, gid, { readOnly, onlyOnMismatch: pod.spec.securityContext?.fsGroupChangePolicy === 'OnRootMismatch' });
    this.grouped.add(path);
  }

  private async payload(pod: Pod, volume: Volume, signal: AbortSignal): Promise<MountedVolume> {
    const { uid } = pod.metadata;
    const plugin = volume.configMap ? 'configmap' : volume.secret ? 'secret' : volume.downwardAPI ? 'downward-api' : 'projected';
    const path = this.o.paths.volume(uid, plugin, volume.name);
    let refreshAt = Number.POSITIVE_INFINITY;
    const files = await payloadOf(pod, volume, {
      configMap: (namespace, name) => this.objects.get('configmaps', namespace, name, uid, signal),
      secret: (namespace, name) => this.objects.get('secrets', namespace, name, uid, signal),
      token: async (audience, seconds) => {
        const token = await this.tokens.get(pod, audience, seconds, signal);
        refreshAt = Math.min(refreshAt, token.refreshAt);
        return token.token;
      },
      trustAnchors: (wanted) => this.trustBundles.get(wanted, uid, signal),
      certificate: async (name, index, wanted) => {
        const certificate = await this.certificates.get(pod, name, index, wanted, signal);
        refreshAt = Math.min(refreshAt, certificate.refreshAt);
        return certificate;
      },
      addresses: this.o.addresses(pod),
      allocatable: this.o.allocatable(),
    });
    await mkdir(path, { recursive: true, mode: 0o755 });
    if (this.o.tmpfsForSecrets && plugin !== 'configmap' && !(await isMounted(path))) await mountTmpfs(path, ['mode=0755']);
    const gid = pod.spec.securityContext?.fsGroup;
    if (gid !== undefined) for (const file of files.values()) file.mode |= 0o440;
    await writeAtomically(path, files, gid);
    if (Number.isFinite(refreshAt)) this.refreshAt(`${uid}/${volume.name}`, uid, refreshAt);
    return { hostPath: path, readOnly: true };
  }

  private refreshAt(key: string, uid: string, at: number): void {
    this.refreshes.get(key)?.();
    this.refreshes.set(
      key,
      this.o.clock.after(Math.max(1000, at - this.o.clock.now()), () => this.o.onChange(uid)),
    );
  }

  private async claim(pod: Pod, volume: Volume, signal: AbortSignal): Promise<MountedVolume> {
    const { namespace, uid } = pod.metadata;
    const key = `${uid}/${volume.name}`;
    const known = this.claimed.get(key);
    if (known && (known.block || (await isMounted(known.hostPath)))) return known;
    const name = volume.persistentVolumeClaim?.claimName ?? `${pod.metadata.name}-${volume.name}`;
    const claim = await this.o.client.get(resources.persistentvolumeclaims, { namespace, name }, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) throw new Error(`persistentvolumeclaim "${name}" not found`);
      throw error;
    });
    if (volume.ephemeral && !claim.metadata.ownerReferences?.some((r) => r.uid === uid))
      throw new Error(`PVC ${namespace}/${name} was not created for pod ${namespace}/${pod.metadata.name} (pod is not owner)`);
    if (claim.metadata.deletionTimestamp && !(await this.alreadyUsed(uid)))
      throw new Error(`can't start pod because PVC ${namespace}/${name} is being deleted`);
    const volumeName = claim.spec?.volumeName;
    if (!volumeName || claim.status?.phase !== 'Bound') throw new Error(`PVC ${namespace}/${name} is not bound`);
    const pv = await this.o.client.get(resources.persistentvolumes, { name: volumeName }, { signal });
    if (pv.spec?.claimRef && pv.spec.claimRef.uid !== claim.metadata.uid)
      throw new Error(`PV ${volumeName} is not bound to claim ${namespace}/${name}`);
    const block = pv.spec?.volumeMode === 'Block';
    const readOnly = volume.persistentVolumeClaim?.readOnly === true;
    const grown = isBehind(claim, pv);
    const mounted = await this.persistent(pod, pv, { readOnly, block, grown }, signal);
    this.claimed.set(key, { ...mounted, pod, claim: name });
    if (grown) await this.grow(pod, claim, pv, signal);
    return mounted;
  }

  /** Looks whether volumes of claims have grown, and makes their file systems follow. A node may read its claims, but not watch them. */
  async growClaimed(signal: AbortSignal): Promise<void> {
    for (const { pod, claim: name, block, readOnly } of [...this.claimed.values()]) {
      if (block || readOnly) continue;
      const { namespace } = pod.metadata;
      const claim = await this.o.client.get(resources.persistentvolumeclaims, { namespace, name }, { signal });
      if (!claim.status?.conditions?.some((one) => one.type === 'FileSystemResizePending' && one.status === 'True')) continue;
      const pv = await this.o.client.get(resources.persistentvolumes, { name: claim.spec!.volumeName! }, { signal });
      if (isBehind(claim, pv)) await this.grow(pod, claim, pv, signal);
    }
  }

  /** What cannot grow now is tried again, and keeps no pod from running. */
  private async grow(pod: Pod, claim: PersistentVolumeClaim, pv: PersistentVolume, signal: AbortSignal): Promise<void> {
    try {
      await this.csi.grow(pv);
      await reportGrown(this.o, pod, claim, pv, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const message = `MountVolume.NodeExpandVolume failed for volume "${pv.metadata.name}" : ${(error as Error).message}`;
      for (const object of [pod, claim]) this.o.recorder.event(object, 'Warning', 'VolumeResizeFailed', message);
    }
  }

  private async persistent(
    pod: Pod,
    pv: PersistentVolume,
    o: SetupOptions,
    signal: AbortSignal,
  ): Promise<MountedVolume> {
    const { readOnly, block } = o;
    if (pv.spec?.hostPath) {
      await checkHostPath(pv.spec.hostPath);
      return { hostPath: pv.spec.hostPath.path, readOnly, ...(block ? { block } : {}) };
    }
    if (pv.spec?.local) return { hostPath: pv.spec.local.path, readOnly, ...(block ? { block } : {}) };
    if (!pv.spec?.csi) throw new Error(`PersistentVolume ${pv.metadata.name}: no volume plugin matched`);
    const mounted = await this.csi.setup(pv, pod.metadata.uid, o, signal);
    const once = (pv.spec.accessModes ?? []).some((m) => m === 'ReadWriteOnce' || m === 'ReadWriteOncePod');
    if (!block && once && !readOnly) await this.group(pod, mounted.hostPath, false);
    return mounted;
  }

  private async alreadyUsed(uid: string): Promise<boolean> {
    return (await readdir(dirname(this.o.paths.volume(uid, 'csi', 'x'))).catch(() => [])).length > 0;
  }

  async subPath(
    pod: Pod,
    volume: MountedVolume,
    name: string,
    subPath: string,
    container: string,
    index: number,
    readOnly: boolean,
  ): Promise<string> {
    const target = this.o.paths.subPath(pod.metadata.uid, name, container, index);
    await bindSubPath(volume.hostPath, subPath, target, readOnly);
    return target;
  }

  async unmount(pod: { metadata: { uid: string } }): Promise<void> {
    const { uid } = pod.metadata;
    this.objects.release(uid);
    this.tokens.forget(uid);
    this.trustBundles.release(uid);
    this.certificates.forget(uid);
    for (const key of this.claimed.keys()) if (key.startsWith(`${uid}/`)) this.claimed.delete(key);
    for (const [key, cancel] of this.refreshes)
      if (key.startsWith(`${uid}/`)) {
        cancel();
        this.refreshes.delete(key);
      }
    const directory = this.o.paths.pod(uid);
    for (const path of this.grouped) if (path.startsWith(`${directory}/`)) this.grouped.delete(path);
    await unmountBelow(`${directory}/volume-subpaths`);
    await this.csi.teardown(uid);
    await unmountBelow(`${directory}/volumes`);
    // Only after nothing is mounted there any more: a removal must never reach into a volume.
    await rm(`${directory}/volumes`, { recursive: true, force: true });
    await rm(`${directory}/volume-subpaths`, { recursive: true, force: true });
  }

  stop(): void {
    for (const cancel of this.refreshes.values()) cancel();
  }
}

function usedVolumes(pod: Pod): Set<string> {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers, ...(pod.spec.ephemeralContainers ?? [])];
  return new Set(all.flatMap((c) => [...(c.volumeMounts ?? []), ...(c.volumeDevices ?? [])].map((m) => m.name)));
}
