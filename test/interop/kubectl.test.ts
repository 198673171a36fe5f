import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { Connection } from './connection.ts';
import { collectionPath, namespace, samples } from './corpus.ts';
import { different } from './known-outputs.ts';
import { missingPeers, type Peer, programPath, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver', 'kubectl');
if (missing) console.warn(`skipped, the comparison of kubectl's outputs: ${missing}`);

interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

/** What differs from run to run: ages, uids, versions, addresses, ports, generated names, and the widths that follow from them. */
function masked(text: string): string {
  return text
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UID')
    .replace(/\b10\.96\.\d+\.\d+\b/g, 'CLUSTER-IP')
    .replace(/\b127\.0\.0\.1:\d+/g, 'SERVER')
    .replace(/\b3[0-2]\d{3}\b/g, 'PORT')
    .replace(/kube-api-access-[a-z0-9]{5}/g, 'kube-api-access-XXXXX')
    .replace(/(resourceVersion"?: ")\d+"/g, '$1RV"')
    .replace(/(Resource Version:\s+)\d+/g, '$1RV')
    .replace(/X509SHA256=[0-9a-f]+/g, 'X509SHA256=HASH')
    .replace(/\/tmp\/(LIVE|MERGED)-\d+/g, '/tmp/$1')
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000/g, 'TIME')
    .replace(/kumulus-interop-kubectl-\w+\/(ours|theirs)/g, 'HOME')
    .replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, 'TIME')
    .replace(/\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}/g, 'TIME')
    .replace(/\b\d+(ms|s|m\d+s|m)\b(?= |$| ago)/gm, 'AGE')
    .replace(/^[EIW]\d{4} .*$/gm, '')
    // Upstream's allocator of addresses may come by between any two commands.
    .replace(/Events:\n.*\n.*\n.*ipallocator-repair-controller.*\n/g, 'Events: <none>\n')
    .replace(/ +/g, ' ')
    .replace(/-{5,}/g, '----')
    .replace(/ $/gm, '');
}

/** The lines of `kubectl explain` that name kinds and fields with their types. */
const fieldsOf = (shown: string) =>
  shown
    .split('\n')
    .filter((line) => /^(GROUP|KIND|VERSION|FIELD|ENUM|\[|error)|^\s+(\S+\t<.*>|enum: )/.test(line))
    .join('\n');

describe.skipIf(missing)('kubectl 1.37 prints the same against both servers', () => {
  let server: TestServer;
  let peer: Peer;
  let ours: Connection;
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-interop-kubectl-'));
  const sides = ['ours', 'theirs'] as const;

  const kubectl = (side: (typeof sides)[number], args: string[], input?: string): Promise<Output> =>
    new Promise((resolve) => {
      const home = join(folder, side);
      const env = { PATH: process.env['PATH'] ?? '', KUBECONFIG: join(home, 'kubeconfig'), HOME: home };
      const child = execFile(programPath('kubectl'), args, { env, timeout: 60_000, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr });
      });
      child.stdin?.end(input ?? '');
    });
  const both = (args: string[], input?: string) => Promise.all(sides.map((side) => kubectl(side, args, input))) as Promise<[Output, Output]>;
  const text = (o: Output) => masked(`${o.stdout}${o.stderr ? `\n[stderr]\n${o.stderr}` : ''}\n[exit ${o.code}]`);

  beforeAll(async () => {
    // Of these, upstream asks for feature gates besides, which are off.
    const gated = { 'lifecycle.k8s.io/v1alpha1': false, 'scheduling.k8s.io/v1alpha3': false, 'scheduling.k8s.io/v1beta1': false };
    [server, peer] = await Promise.all([startTestServer({ runtimeConfig: { 'api/all': true, ...gated } }), startPeer()]);
    ours = new Connection(server.address, { ca: server.ca, ...server.admin });
    for (const side of sides) {
      mkdirSync(join(folder, side), { recursive: true });
      writeFileSync(join(folder, side, 'kubeconfig'), side === 'ours' ? server.kubeconfig(server.admin) : peer.kubeconfig);
    }
    await both(['create', 'namespace', namespace]);
    for (const ns of [namespace, 'default']) await both(['create', 'serviceaccount', 'default', '-n', ns]);
  });
  afterAll(async () => {
    ours?.close();
    await server?.stop();
    await peer?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function compare(args: string[], input?: string): Promise<string | undefined> {
    const [a, b] = await both(args, input);
    // Descriptions are upstream's prose: only the fields are compared.
    const shown = args[0] === 'explain' ? (o: Output) => fieldsOf(text(o)) : text;
    return shown(a) === shown(b) ? undefined : `$ kubectl ${args.join(' ')}\n--- ours\n${shown(a)}\n--- theirs\n${shown(b)}`;
  }

  const only = process.env['KUMULUS_INTEROP_ONLY'];
  const chosen = samples().filter((s) => !only || new RegExp(only).test(s.title));
  test.each(chosen.map((s) => [s.title, s] as const))('shows a %s', async (title, { resource, object }) => {
    const path = collectionPath(resource);
    for (const connection of [ours, peer.connection]) await connection.send({ method: 'POST', path, body: object });
    const kind = [resource.resource, resource.version, resource.group].filter(Boolean).join('.').replace(/\.v1$/, '');
    const scope = resource.namespaced ? ['-n', namespace] : [];
    const { name } = object.metadata;
    const found: string[] = [];
    for (const args of [
      ['get', kind, name],
      ['get', kind, name, '-o', 'wide', '--show-labels', '--show-kind'],
      ['get', kind, name, '-o', 'yaml'],
      ['describe', kind, name],
      ['delete', kind, name, '--wait=false'],
    ]) {
      const difference = await compare([...args, ...scope]);
      if (difference) found.push(difference);
    }
    for (const connection of [ours, peer.connection]) {
      const one = `${path}/${name}`;
      await connection.send({ method: 'PATCH', path: one, body: { metadata: { finalizers: null } }, headers: { 'content-type': 'application/merge-patch+json' } });
      await connection.send({ method: 'DELETE', path: `${one}?gracePeriodSeconds=0` });
    }
    if (found.length > (different[title] ?? 0)) expect.fail(found.join('\n\n'));
  }, 120_000);

  test.each(scenarios.map((s) => [s.title, s] as const))('%s', async (title, scenario) => {
    const found: string[] = [];
    for (const step of scenario.steps) {
      const [line, input] = typeof step === 'string' ? [step] : step;
      const args = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((m) => m[1] ?? m[2]!);
      const difference = await compare(args, input);
      if (difference) found.push(difference);
    }
    if (found.length > (different[title] ?? 0)) expect.fail(`${found.length} of ${scenario.steps.length} differ\n${found.join('\n\n')}`);
  }, 240_000);
});

type Step = string | [line: string, input: string];

const web = (image: string, replicas = 2) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "${image}", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {selector: {app: web}, ports: [{port: 80}]}
`;
const config = (name: string, data: string) => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, labels: {set: a}}\ndata: {${data}}\n`;

const scenarios: { title: string; steps: Step[] }[] = [
  {
    title: 'apply, diff and prune',
    steps: [
      ['apply -f - --dry-run=server', web('nginx:1')],
      ['apply -f - --dry-run=client', web('nginx:1')],
      ['diff -f -', web('nginx:1')],
      ['apply -f -', web('nginx:1')],
      ['apply -f -', web('nginx:1')],
      ['diff -f -', web('nginx:1')],
      ['apply -f - -o yaml', web('nginx:2', 3)],
      'apply view-last-applied deployment/web',
      ['apply -f -', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n'],
      ['apply -f -', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: 1}\n'],
      ['apply -f -', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nbogus: 1\n'],
      ['apply -f -', 'apiVersion: v1\nkind: Bogus\nmetadata: {name: a}\n'],
      ['apply -f -', 'apiVersion: bogus/v1\nkind: ConfigMap\nmetadata: {name: a}\n'],
      ['apply -f -', 'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a, env: [{name: A}, {name: A}]}], nodeSelector: {beta.kubernetes.io/os: linux}}\n'],
      ['apply -f - --prune -l set=a', `${config('one', 'a: b')}---\n${config('two', 'a: b')}`],
      ['apply -f - --prune -l set=a', config('one', 'a: c')],
      'get configmap -l set=a',
      ['delete -f -', config('one', 'a: c')],
      'delete pod a --now',
    ],
  },
  {
    title: 'get in all its forms',
    steps: [
      'get deployment,service',
      'get all',
      'get deploy web -o json',
      'get deploy -o name',
      'get deploy web -o wide',
      'get svc --sort-by=.metadata.name',
      "get deploy -o 'custom-columns=NAME:.metadata.name,IMAGE:.spec.template.spec.containers[*].image'",
      "get deploy web -o 'jsonpath={.spec.template.spec.containers[0].image}'",
      "get deploy web -o 'go-template={{.metadata.name}}'",
      'get deploy -l app=web --show-labels',
      'get deploy -l app!=web',
      'get deploy -L app',
      'get svc --field-selector metadata.name=web',
      'get svc --field-selector spec.bogus=web',
      'get pods',
      'get pods -A',
      'get namespaces',
      'get bogus',
      'get deploy nobody',
      'get deploy web --no-headers',
      'get deploy web -o yaml --show-managed-fields',
      'get --raw /apis/apps/v1/namespaces/default/deployments/nobody',
      'get --raw /version',
      'get --raw /healthz',
      'get --raw /bogus',
      'get events',
      'get clusterroles -o name',
      'get clusterrolebindings -o name',
      'get roles -A -o name',
      'get rolebindings -A -o name',
      'get priorityclasses',
      'get flowschemas',
      'get prioritylevelconfigurations',
      'get apiservices',
      'get storageclasses',
      'get configmaps -n kube-system -o name',
      'get servicecidrs',
      'get ipaddress 10.96.0.1 --show-labels',
      'describe ipaddress 10.96.0.1',
      'describe deployment web',
      'describe service web',
      'describe namespace default',
      'describe priorityclass system-node-critical',
      'describe clusterrole system:basic-user',
    ],
  },
  {
    title: 'changes',
    steps: [
      'scale deployment web --replicas=5',
      'scale deployment web --replicas=1 --current-replicas=9',
      'scale deployment nobody --replicas=1',
      'label deployment web tier=front',
      'label deployment web tier=back',
      'label deployment web tier=back --overwrite',
      'label deployment web tier-',
      "label deployment web 'bad key=x'",
      'annotate deployment web note=text',
      'annotate deployment web note-',
      'set image deployment/web main=nginx:3',
      'set env deployment/web A=b',
      'set resources deployment web --limits=cpu=1',
      'set serviceaccount deployment web default',
      'set selector service web app=web2',
      "patch deployment web -p '{\"spec\":{\"replicas\":2}}'",
      "patch deployment web -p '{\"spec\":{\"replicas\":2}}'",
      "patch deployment web --type=merge -p '{\"spec\":{\"bogus\":2}}'",
      "patch deployment web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":3}]'",
      "patch deployment web --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/no/such\",\"value\":3}]'",
      "patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}}'",
      "patch deployment web --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":4}}'",
      'get deployment web -o yaml',
      'autoscale deployment web --min=1 --max=3 --cpu=50%',
      'get hpa web',
      'expose deployment web --name=web2 --port=80 --type=NodePort',
      'get svc web2',
      'run box --image=busybox --restart=Never --command -- sleep 1',
      'get pod box -o yaml',
      'delete pod box --grace-period=0 --force',
      'rollout status deployment/web --timeout=1s',
      'rollout history deployment/web',
      'rollout pause deployment/web',
      'rollout pause deployment/web',
      'rollout resume deployment/web',
      'rollout restart deployment/web',
      'rollout undo deployment/web',
      'wait --for=condition=Available deployment/web --timeout=1s',
      "wait --for=jsonpath='{.spec.replicas}'=4 deployment/web --timeout=1s",
      'delete deployment web --cascade=foreground --wait=false',
      'delete deployment web --cascade=orphan --wait=false',
      'delete service web web2 --now',
      'delete hpa web',
      'delete nothing x',
      'delete configmap nobody',
      'delete configmap nobody --ignore-not-found',
    ],
  },
  {
    title: 'create',
    steps: [
      'create configmap a --from-literal=k=v -o yaml',
      'create configmap a --from-literal=k=v',
      'create secret generic s --from-literal=k=v -o yaml',
      'create secret docker-registry d --docker-username=u --docker-password=p --docker-email=e@x -o yaml',
      'create namespace n1 -o yaml',
      'create serviceaccount sa1 -o yaml',
      'create deployment d1 --image=nginx --replicas=2 --port=80 -o yaml',
      'create job j1 --image=busybox -- sleep 1',
      "create cronjob c1 --image=busybox --schedule='*/5 * * * *'",
      "create cronjob c2 --image=busybox --schedule='bogus'",
      'create job j2 --from=cronjob/c1',
      'create role r1 --verb=get --resource=pods',
      'create rolebinding rb1 --role=r1 --user=u',
      'create clusterrole cr1 --verb=get --resource=nodes',
      'create clusterrole cr2 --verb=get --non-resource-url=/x',
      'create clusterrolebinding crb1 --clusterrole=cr1 --group=g',
      'create quota q1 --hard=pods=5',
      'create poddisruptionbudget p1 --selector=app=web --min-available=1',
      'create priorityclass pc1 --value=5',
      "create ingress i1 --rule='a.example.com/=web:80'",
      'create service clusterip s1 --tcp=80:80',
      'create service nodeport s2 --tcp=80:80',
      'create service externalname s3 --external-name=example.com',
      'create token sa1 --duration=1s',
      'get cm,secret,sa,deploy,job,cronjob,role,rolebinding,quota,pdb,ingress,svc',
      'describe cronjob c1',
      'describe quota q1',
      'describe role r1',
      'describe clusterrole cr2',
      'delete cm,secret,deploy,job,cronjob,role,rolebinding,quota,pdb,ingress --all',
      'delete svc s1 s2 s3',
      'delete clusterrole cr1 cr2',
      'delete clusterrolebinding crb1',
      'delete priorityclass pc1',
    ],
  },
  {
    title: 'what there is',
    steps: [
      'api-resources --sort-by=name',
      'api-resources -o wide --sort-by=name',
      'api-resources --categories=all -o name',
      'api-resources --namespaced=false -o name',
      'api-resources --verbs=list -o name',
      'api-versions',
      'version -o json',
      'cluster-info',
      'auth can-i create pods',
      'auth can-i --list',
      'auth whoami',
      'auth can-i delete nodes --as=bob',
      'auth can-i get pods --as=system:serviceaccount:default:default',
      'top pods',
      'top nodes',
      'options',
    ],
  },
  {
    title: 'explain',
    steps: [
      'explain pod',
      'explain pod.spec.containers.livenessProbe',
      'explain deployment.spec.strategy',
      'explain deployment --recursive',
      'explain service.spec.ports.targetPort',
      'explain configmap.data',
      'explain ingress.spec.rules',
      'explain hpa --api-version=autoscaling/v1',
      'explain crd.spec.versions',
      'explain bogus',
      'explain pod.bogus',
    ].map((line) => `${line}`),
  },
];
