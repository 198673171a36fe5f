import { join } from 'node:path';
import type { Pod } from '../api/generated/types.ts';

/** Where things lie under the kubelet's root directory; the layout is upstream's. */
export interface Paths {
  root: string;
  pods: string;
  pod(uid: string): string;
  /** kubernetes.io~PLUGIN/NAME under the pod's volumes. */
  volume(uid: string, plugin: string, name: string): string;
  subPath(uid: string, volume: string, container: string, index: number): string;
  etcHosts(uid: string): string;
  containerDir(uid: string, container: string): string;
  terminationLog(uid: string, container: string, attempt: number): string;
  /** Where a CSI volume is mounted once on the node. */
  csiGlobalMount(driver: string, handle: string): string;
  csiBlockStaging(pvName: string): string;
  podLogs(pod: { metadata: { name: string; namespace: string; uid: string } }): string;
  containerLogLink(pod: Pod, container: string, id: string): string;
}

export function makePaths(root: string, podLogsDir = '/var/log/pods', containerLogsDir = '/var/log/containers', hash: (s: string) => string): Paths {
  const pod = (uid: string) => join(root, 'pods', uid);
  return {
    root,
    pods: join(root, 'pods'),
    pod,
    volume: (uid, plugin, name) => join(pod(uid), 'volumes', `kubernetes.io~${plugin}`, name),
    subPath: (uid, volume, container, index) => join(pod(uid), 'volume-subpaths', volume, container, String(index)),
    etcHosts: (uid) => join(pod(uid), 'etc-hosts'),
    containerDir: (uid, container) => join(pod(uid), 'containers', container),
    terminationLog: (uid, container, attempt) => join(pod(uid), 'containers', container, `termination-log-${attempt}`),
    csiGlobalMount: (driver, handle) => join(root, 'plugins/kubernetes.io/csi', driver, hash(handle), 'globalmount'),
    csiBlockStaging: (pvName) => join(root, 'plugins/kubernetes.io/csi/volumeDevices/publish', pvName),
    podLogs: (p) => join(podLogsDir, `${p.metadata.namespace}_${p.metadata.name}_${p.metadata.uid}`),
    containerLogLink: (p, container, id) => join(containerLogsDir, `${p.metadata.name}_${p.metadata.namespace}_${container}-${id}.log`),
  };
}
