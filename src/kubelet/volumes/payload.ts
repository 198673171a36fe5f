import type {
  ClusterTrustBundleProjection,
  ConfigMap,
  DownwardAPIVolumeFile,
  KeyToPath,
  Pod,
  PodCertificateProjection,
  Secret,
  Volume,
  VolumeProjection,
} from '../../api/generated/types.ts';
import { fieldValue, type PodAddresses, resourceFieldValue } from '../field-ref.ts';
import type { ProjectedFile } from './atomic-writer.ts';

export interface PayloadSources {
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
  token(audience: string | undefined, expirationSeconds: number): Promise<string>;
  /** PEM. */
  trustAnchors(wanted: ClusterTrustBundleProjection): Promise<string>;
  /** PEM; index: of the source in its volume. */
  certificate(volume: string, index: number, wanted: PodCertificateProjection): Promise<{ privateKey: string; chain: string }>;
  addresses: PodAddresses;
  allocatable: Record<string, string>;
}
export type Payload = Map<string, ProjectedFile>;

const defaultMode = 0o644;

/** A volume of files that the API server's objects make up. */
export const isPayloadVolume = (v: Volume): boolean => Boolean(v.configMap || v.secret || v.downwardAPI || v.projected);

/** The files of a configMap, secret, downwardAPI or projected volume. Throws with what is missing. */
export async function payloadOf(pod: Pod, volume: Volume, sources: PayloadSources): Promise<Payload> {
  const { namespace } = pod.metadata;
  if (volume.configMap) {
    const { name = '', items, optional, defaultMode: mode } = volume.configMap;
    return select(configMapData(await sources.configMap(namespace, name)), `configmap "${name}"`, items, optional, mode ?? defaultMode);
  }
  if (volume.secret) {
    const { secretName = '', items, optional, defaultMode: mode } = volume.secret;
    return select(secretData(await sources.secret(namespace, secretName)), `secret "${secretName}"`, items, optional, mode ?? defaultMode);
  }
  if (volume.downwardAPI) return downward(pod, volume.downwardAPI.items ?? [], volume.downwardAPI.defaultMode ?? defaultMode, sources);
  const all: Payload = new Map();
  const mode = volume.projected?.defaultMode ?? defaultMode;
  for (const [index, source] of (volume.projected?.sources ?? []).entries()) {
    const files = source.podCertificate
      ? certificateFiles(pod, source.podCertificate, mode, await sources.certificate(volume.name, index, source.podCertificate))
      : await projection(pod, source, mode, sources);
    for (const [path, file] of files) all.set(path, file);
  }
  return all;
}

async function projection(pod: Pod, source: VolumeProjection, mode: number, sources: PayloadSources): Promise<Payload> {
  const { namespace } = pod.metadata;
  if (source.configMap) {
    const { name = '', items, optional } = source.configMap;
    return select(configMapData(await sources.configMap(namespace, name)), `configmap "${name}"`, items, optional, mode);
  }
  if (source.secret) {
    const { name = '', items, optional } = source.secret;
    return select(secretData(await sources.secret(namespace, name)), `secret "${name}"`, items, optional, mode);
  }
  if (source.downwardAPI) return downward(pod, source.downwardAPI.items ?? [], mode, sources);
  if (source.serviceAccountToken) {
    const { audience, expirationSeconds = 3600, path } = source.serviceAccountToken;
    return new Map([[path, restricted(pod, mode, await sources.token(audience, expirationSeconds))]]);
  }
  if (source.clusterTrustBundle)
    return new Map([[source.clusterTrustBundle.path, restricted(pod, mode, await sources.trustAnchors(source.clusterTrustBundle))]]);
  throw new Error('a projected volume has a source that this kubelet does not know');
}

/** Only whom it is meant for may read it, where the pod says who that is. */
function restricted(pod: Pod, mode: number, text: string): ProjectedFile {
  const uid = commonUser(pod);
  const narrow = uid !== undefined || pod.spec.securityContext?.fsGroup !== undefined;
  return { content: Buffer.from(text), mode: narrow ? 0o600 : mode, ...(uid === undefined ? {} : { uid }) };
}

function certificateFiles(
  pod: Pod,
  to: PodCertificateProjection,
  mode: number,
  { privateKey, chain }: { privateKey: string; chain: string },
): Payload {
  const files: Payload = new Map();
  if (to.credentialBundlePath) files.set(to.credentialBundlePath, restricted(pod, mode, privateKey + chain));
  if (to.keyPath) files.set(to.keyPath, restricted(pod, mode, privateKey));
  if (to.certificateChainPath) files.set(to.certificateChainPath, restricted(pod, mode, chain));
  return files;
}

/** The user that all containers run as, if they agree on one. */
function commonUser(pod: Pod): number | undefined {
  const users = new Set(
    [...(pod.spec.initContainers ?? []), ...pod.spec.containers].map((c) => c.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser),
  );
  return users.size === 1 ? [...users][0] : undefined;
}

function configMapData(map: ConfigMap | undefined): Map<string, Buffer> | undefined {
  if (!map) return undefined;
  const data = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(map.data ?? {})) data.set(key, Buffer.from(value));
  for (const [key, value] of Object.entries(map.binaryData ?? {})) data.set(key, Buffer.from(value, 'base64'));
  return data;
}
const secretData = (secret: Secret | undefined): Map<string, Buffer> | undefined =>
  secret && new Map(Object.entries(secret.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')]));

function select(
  data: Map<string, Buffer> | undefined,
  what: string,
  items: KeyToPath[] | undefined,
  optional: boolean | undefined,
  mode: number,
): Payload {
  if (!data) {
    if (optional) return new Map();
    throw new Error(`${what} not found`);
  }
  if (!items || items.length === 0) return new Map([...data].map(([key, content]) => [key, { content, mode }]));
  const payload: Payload = new Map();
  for (const item of items) {
    const content = data.get(item.key);
    if (content) payload.set(item.path, { content, mode: item.mode ?? mode });
    else if (!optional) throw new Error(`references non-existent ${what.split(' ')[0] === 'secret' ? 'secret' : 'config'} key: ${item.key}`);
  }
  return payload;
}

function downward(pod: Pod, items: DownwardAPIVolumeFile[], mode: number, sources: PayloadSources): Payload {
  const payload: Payload = new Map();
  for (const item of items) {
    let value = '';
    if (item.fieldRef) value = fieldValue(pod, item.fieldRef, sources.addresses);
    else if (item.resourceFieldRef) value = resourceFieldValue(pod, pod.spec.containers[0]!, item.resourceFieldRef, sources.allocatable);
    payload.set(item.path, { content: Buffer.from(value), mode: item.mode ?? mode });
  }
  return payload;
}
