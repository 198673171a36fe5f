import { canonicalJson, sameJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { compareQuantities, parseQuantity } from '../quantity.ts';
import { age } from './age.ts';
import { column, columns } from './column.ts';
import { podWarnings } from './pod-warnings.ts';
import { Findings } from './findings.ts';
import { validatePodCreation, validatePodSpec } from './pod-validation.ts';

const clusterFirst = 'ClusterFirst';

// Go's zero values are as good as none: "" and 0 get the default too, where the field is no pointer.
function defaultProbe(probe: any): void {
  if (!probe) return;
  probe.timeoutSeconds ||= 1;
  probe.periodSeconds ||= 10;
  probe.successThreshold ||= 1;
  probe.failureThreshold ||= 3;
  defaultHandler(probe);
}
function defaultHandler(handler: any): void {
  if (!handler) return;
  if (handler.httpGet) {
    handler.httpGet.path ||= '/';
    handler.httpGet.scheme ||= 'HTTP';
  }
  if (handler.grpc) handler.grpc.service ??= '';
}

/** :latest, or no tag at all, is pulled always; anything else when it is not there. */
export function pullPolicyOf(image: string): string {
  // What is no reference has no tag that could be the latest.
  if (image.length > 255 || !/^[a-z0-9.:_-]+(\/[a-z0-9._-]+)*(:[\w][\w.-]{0,127})?(@[a-z0-9]+:[a-f0-9]{32,})?$/i.test(image)) return 'IfNotPresent';
  const withoutDigest = image.split('@')[0] as string;
  const last = withoutDigest.slice(withoutDigest.lastIndexOf('/') + 1);
  if (last.endsWith(':latest')) return 'Always';
  return last.includes(':') || image.includes('@') ? 'IfNotPresent' : 'Always';
}

function defaultContainer(container: any): void {
  container.imagePullPolicy ||= pullPolicyOf(container.image ?? '');
  container.terminationMessagePath ||= '/dev/termination-log';
  container.terminationMessagePolicy ||= 'File';
  container.resources ??= {};
  for (const port of container.ports ?? []) port.protocol ||= 'TCP';
  for (const probe of [container.livenessProbe, container.readinessProbe, container.startupProbe]) defaultProbe(probe);
  for (const hook of [container.lifecycle?.postStart, container.lifecycle?.preStop]) defaultHandler(hook);
  for (const env of container.env ?? []) if (env.valueFrom?.fieldRef) env.valueFrom.fieldRef.apiVersion ||= 'v1';
}

/** In a pod, though not in the template of one, a limit without a request asks for as much. */
function defaultRequests(resources: any): void {
  if (!resources.limits) return;
  const requests = { ...resources.limits, ...resources.requests };
  if (Object.keys(requests).length) resources.requests = requests;
}

/** Defaults of a PodSpec, as SetDefaults_PodSpec and its kin. */
export function defaultPodSpec(spec: any, isPod = false): void {
  spec.restartPolicy ||= 'Always';
  spec.dnsPolicy ||= clusterFirst;
  spec.schedulerName ||= 'default-scheduler';
  spec.securityContext ??= {};
  spec.terminationGracePeriodSeconds ??= 30;
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) {
    defaultContainer(container);
    if (isPod && spec.hostNetwork) for (const port of container.ports ?? []) port.hostPort ||= port.containerPort;
  }
  for (const container of spec.ephemeralContainers ?? []) defaultContainer(container);
  for (const volume of spec.volumes ?? []) {
    const sources = Object.keys(volume).filter((k) => k !== 'name');
    if (!sources.length) volume.emptyDir = {};
    if (volume.image) volume.image.pullPolicy ||= pullPolicyOf(volume.image.reference ?? '');
    for (const source of [volume.configMap, volume.secret, volume.downwardAPI, volume.projected]) if (source) source.defaultMode ??= 420;
    if (volume.hostPath) volume.hostPath.type ??= '';
    if (volume.azureDisk) {
      volume.azureDisk.cachingMode ??= 'ReadWrite';
      volume.azureDisk.kind ??= 'Shared';
      volume.azureDisk.fsType ??= 'ext4';
      volume.azureDisk.readOnly ??= false;
    }
    if (volume.ephemeral?.volumeClaimTemplate) {
      const claim = (volume.ephemeral.volumeClaimTemplate.spec ??= {});
      claim.volumeMode ??= 'Filesystem';
    }
    for (const item of volume.downwardAPI?.items ?? []) if (item.fieldRef) item.fieldRef.apiVersion ||= 'v1';
    for (const source of volume.projected?.sources ?? []) {
      if (source.serviceAccountToken) source.serviceAccountToken.expirationSeconds ??= 3600;
      for (const item of source.downwardAPI?.items ?? []) if (item.fieldRef) item.fieldRef.apiVersion ||= 'v1';
    }
  }
  if (spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  else if (spec.serviceAccount) spec.serviceAccountName = spec.serviceAccount;
}

/** Takes away what only features that are off by default would keep. */
export function dropUnreleased(spec: any): void {
  if (!spec) return;
  delete spec.evictionResponders;
  delete spec.schedulingGroup;
  for (const volume of spec.volumes ?? []) {
    for (const kind of ['configMap', 'secret', 'downwardAPI', 'projected']) {
      if (volume[kind]) delete volume[kind].defaultUser;
      for (const item of volume[kind]?.items ?? []) delete item.user;
    }
    if (volume.emptyDir) delete volume.emptyDir.mode;
    for (const source of volume.projected?.sources ?? []) {
      for (const kind of ['serviceAccountToken', 'clusterTrustBundle', 'podCertificate']) if (source[kind]) delete source[kind].user;
      for (const kind of ['configMap', 'secret', 'downwardAPI']) for (const item of source[kind]?.items ?? []) delete item.user;
    }
  }
  for (const c of [...(spec.initContainers ?? []), ...(spec.containers ?? []), ...(spec.ephemeralContainers ?? [])]) {
    for (const mount of c.volumeMounts ?? []) delete mount.bindMountOptions;
    if (c.lifecycle) delete c.lifecycle.stopSignal;
    for (const handler of [c.livenessProbe, c.readinessProbe, c.startupProbe, c.lifecycle?.postStart, c.lifecycle?.preStop])
      if (handler?.httpGet) delete handler.httpGet.protocol;
  }
}

/** Guaranteed, Burstable or BestEffort, from cpu and memory of all containers. */
export function qosClass(spec: any): string {
  const all = [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  const zero = (q: any) => q === undefined || parseQuantity(q).nano === 0n;
  const kinds = ['cpu', 'memory'];
  const any = all.some((c) => kinds.some((k) => !zero(c.resources?.requests?.[k]) || !zero(c.resources?.limits?.[k])));
  if (!any) return 'BestEffort';
  const guaranteed = all.every((c) =>
    kinds.every(
      (k) =>
        !zero(c.resources?.limits?.[k]) &&
        (c.resources?.requests?.[k] === undefined || compareQuantities(c.resources.requests[k], c.resources.limits[k]) === 0),
    ),
  );
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

const mutableUpdate =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

function validatePodUpdate(pod: any, old: any): FieldError[] {
  const found = new Findings();
  const before = structuredClone(old.spec);
  const mine = structuredClone(pod.spec);
  for (const list of ['containers', 'initContainers'] as const) {
    if ((mine[list] ?? []).length !== (before[list] ?? []).length) {
      found.forbidden(`spec.${list}`, 'pod updates may not add or remove containers');
      return found.errors;
    }
    (mine[list] ?? []).forEach((c: any, i: number) => {
      const at = `spec.${list}[${i}].image`;
      if (!c.image) found.required(at);
      else if (c.image !== c.image.trim()) found.invalid(at, c.image, 'must not have leading or trailing whitespace');
      c.image = before[list][i].image;
    });
  }
  const [deadline, earlier] = [mine.activeDeadlineSeconds, before.activeDeadlineSeconds];
  if (deadline !== undefined) {
    const field = 'spec.activeDeadlineSeconds';
    if (deadline < 0 || deadline > 2_147_483_647) found.between(field, deadline, 0, 2_147_483_647);
    else if (earlier !== undefined && earlier < deadline) found.invalid(field, deadline, 'must be less than or equal to previous value');
    if (deadline < 0 || deadline > earlier) return found.errors;
  } else if (earlier !== undefined) found.invalid('spec.activeDeadlineSeconds', null, 'must not update from a positive integer to nil value');
  const kept = (before.tolerations ?? []).every((t: any) =>
    (mine.tolerations ?? []).some((m: any) => canonicalJson({ ...m, tolerationSeconds: 0 }) === canonicalJson({ ...t, tolerationSeconds: 0 })),
  );
  if (!kept) found.forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds');
  const gates = new Set((before.schedulingGates ?? []).map((g: any) => g.name));
  (mine.schedulingGates ?? []).forEach(({ name = '' }: any, i: number) => {
    if (!gates.has(name)) found.forbidden(`spec.schedulingGates[${i}].name`, `only deletion is allowed, but found new scheduling gate '${name}'`);
  });
  for (const field of ['tolerations', 'activeDeadlineSeconds', 'schedulingGates']) mine[field] = before[field];
  if (before.terminationGracePeriodSeconds < 0 && mine.terminationGracePeriodSeconds === 1) mine.terminationGracePeriodSeconds = before.terminationGracePeriodSeconds;
  if (gates.size) {
    const lost = Object.entries(before.nodeSelector ?? {}).some(([key, value]) => mine.nodeSelector?.[key] !== value);
    if (lost) found.invalid('spec.nodeSelector', mine.nodeSelector ?? null, 'only additions to spec.nodeSelector are allowed (no mutations or deletions)');
    mine.nodeSelector = before.nodeSelector;
    mine.affinity = before.affinity;
  }
  if (canonicalJson(mine) !== canonicalJson(before)) found.forbidden('spec', mutableUpdate);
  return found.errors;
}

const isSidecar = (pod: any, name: string) => (pod.spec?.initContainers ?? []).some((c: any) => c.name === name && c.restartPolicy === 'Always');

/** READY, STATUS, RESTARTS as kubectl shows them; rules of upstream's printPod. */
function podCells(pod: any): { ready: string; status: string; restarts: string } {
  const status = pod.status ?? {};
  let reason: string = status.reason || status.phase || 'Unknown';
  let total = (pod.spec?.containers ?? []).length;
  let ready = 0;
  let restarts = 0;
  let lastRestart = 0;
  const countRestart = (c: any) => {
    restarts += c.restartCount ?? 0;
    const at = Date.parse(c.lastState?.terminated?.finishedAt ?? '');
    if (at > lastRestart) lastRestart = at;
  };
  for (const c of status.conditions ?? []) if (c.type === 'PodScheduled' && c.reason === 'SchedulingGated') reason = 'SchedulingGated';
  let initializing = false;
  for (const c of pod.spec?.initContainers ?? []) if (c.restartPolicy === 'Always') total++;
  const inits = status.initContainerStatuses ?? [];
  for (let i = 0; i < inits.length; i++) {
    const c = inits[i];
    const sidecar = isSidecar(pod, c.name);
    countRestart(c);
    if (c.state?.terminated?.exitCode === 0) continue;
    if (sidecar && c.started) {
      if (c.ready) ready++;
      continue;
    }
    if (c.state?.terminated) {
      const t = c.state.terminated;
      reason = t.reason ? `Init:${t.reason}` : t.signal ? `Init:Signal:${t.signal}` : `Init:ExitCode:${t.exitCode}`;
    } else if (c.state?.waiting?.reason && c.state.waiting.reason !== 'PodInitializing') reason = `Init:${c.state.waiting.reason}`;
    else reason = `Init:${i}/${(pod.spec?.initContainers ?? []).length}`;
    initializing = true;
    break;
  }
  const isInitialized = (status.conditions ?? []).some((c: any) => c.type === 'Initialized' && c.status === 'True');
  if (!initializing || isInitialized) {
    if (!initializing) {
      restarts = inits.filter((c: any) => isSidecar(pod, c.name)).reduce((n: number, c: any) => n + (c.restartCount ?? 0), 0);
    }
    let hasRunning = false;
    const statuses = status.containerStatuses ?? [];
    for (let i = statuses.length - 1; i >= 0; i--) {
      const c = statuses[i];
      countRestart(c);
      const { waiting, terminated, running } = c.state ?? {};
      if (waiting?.reason) reason = waiting.reason;
      else if (terminated?.reason) reason = terminated.reason;
      else if (terminated) reason = terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
      else if (c.ready && running) {
        hasRunning = true;
        ready++;
      }
    }
    if (reason === 'Completed' && hasRunning) {
      reason = (status.conditions ?? []).some((c: any) => c.type === 'Ready' && c.status === 'True') ? 'Running' : 'NotReady';
    }
  }
  if (pod.metadata?.deletionTimestamp && status.reason === 'NodeLost') reason = 'Unknown';
  else if (pod.metadata?.deletionTimestamp && status.phase !== 'Failed' && status.phase !== 'Succeeded') reason = 'Terminating';
  const ago = lastRestart && restarts ? ` (${age(new Date(lastRestart).toISOString())} ago)` : '';
  return { ready: `${ready}/${total}`, status: reason, restarts: `${restarts}${ago}` };
}

export const pod: KindStrategy = {
  gracefulDelete: true,
  default(o) {
    o.spec ??= {};
    defaultPodSpec(o.spec, true);
    for (const c of [...(o.spec.initContainers ?? []), ...(o.spec.containers ?? [])]) defaultRequests(c.resources);
    o.spec.enableServiceLinks ??= true;
  },
  warnings: podWarnings,
  prepareForCreate(o, ctx) {
    dropUnreleased(o.spec);
    if (o.spec.terminationGracePeriodSeconds < 0) o.spec.terminationGracePeriodSeconds = 1;
    o.metadata.generation = 1;
    o.status = { phase: 'Pending', qosClass: qosClass(o.spec) };
    if (!o.spec.schedulingGates?.length) return;
    const message = 'Scheduling is blocked due to non-empty scheduling gates';
    o.status.conditions = [{ type: 'PodScheduled', status: 'False', lastTransitionTime: ctx.now, reason: 'SchedulingGated', message }];
  },
  prepareForUpdate(o, old) {
    dropUnreleased(o.spec);
    if (o.spec.terminationGracePeriodSeconds < 0) o.spec.terminationGracePeriodSeconds = 1;
    o.status = old.status;
    o.metadata.generation = sameJson(o.spec, old.spec) ? old.metadata.generation : (old.metadata.generation ?? 0) + 1;
  },
  prepareForStatusUpdate(o, old) {
    o.spec = old.spec;
    o.metadata.generation = old.metadata.generation;
    if (o.status) o.status.qosClass ??= old.status?.qosClass;
  },
  validate: (o) => validatePodSpec(o.spec, 'spec', o),
  validateCreate: validatePodCreation,
  updateValidatesAll: true,
  // Most updates are of metadata, and of a specification that was found valid when it came.
  validateUpdate: (o, old) => (sameJson(o.spec, old.spec) ? [] : [...validatePodSpec(o.spec, 'spec', o), ...validatePodUpdate(o, old)]),
  selectableFields: (o) => ({
    'spec.nodeName': o.spec?.nodeName ?? '',
    'spec.restartPolicy': o.spec?.restartPolicy ?? '',
    'spec.schedulerName': o.spec?.schedulerName ?? '',
    'spec.serviceAccountName': o.spec?.serviceAccountName ?? '',
    'spec.hostNetwork': String(o.spec?.hostNetwork ?? false),
    'status.phase': o.status?.phase ?? '',
    'status.podIP': o.status?.podIP ?? '',
    // Upstream takes the label and knows no value of it.
    'status.podIPs': '',
    'status.nominatedNodeName': o.status?.nominatedNodeName ?? '',
  }),
  columns: [
    ...columns(
      column('Ready', (o) => podCells(o).ready),
      column('Status', (o) => podCells(o).status),
      column('Restarts', (o) => podCells(o).restarts),
    ),
    column('IP', (o) => o.status?.podIP || '<none>', { wide: true }),
    column('Node', (o) => o.spec?.nodeName || '<none>', { wide: true }),
    column('Nominated Node', (o) => o.status?.nominatedNodeName || '<none>', { wide: true }),
    column(
      'Readiness Gates',
      (o) => {
        const gates = o.spec?.readinessGates ?? [];
        if (!gates.length) return '<none>';
        const met = gates.filter((g: any) => (o.status?.conditions ?? []).some((c: any) => c.type === g.conditionType && c.status === 'True'));
        return `${met.length}/${gates.length}`;
      },
      { wide: true },
    ),
  ],
};
