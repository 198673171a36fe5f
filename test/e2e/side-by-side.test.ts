/**
 * Two clusters at once, with the same ranges, on a machine that is itself on those ranges, drops every packet that it should
 * forward, and has no way out: a network namespace plays that machine. Then images that are loaded, and instances that fail.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clusterId } from '../../src/cluster/state.ts';
import { busyboxImage } from '../../src/runtime/images/busybox.ts';
import { writeOciTar } from '../../src/runtime/images/oci-tar.ts';
import { eventually, hostState, Machine, type Ran, run } from './command.ts';

const walled = `walled-${process.pid}`;
const machine = new Machine(['nsenter', `--net=/run/netns/${walled}`]);
const names = ['left', 'right'];
const created = new Map<string, { url: string; server: string; awsEndpoint: string }>();

const fetchPage = async (url: string) => {
  const ran = await machine.run(process.execPath, ['-e', `fetch('${url}').then((a) => a.text()).then((t) => process.stdout.write(t))`]);
  if (!ran.out.includes('Hello from Kumulus')) throw new Error(`${url}: ${ran.out}${ran.err}`);
  return ran.out;
};
const kubectl = (cluster: string, args: string, input?: string) =>
  machine.kubectl(['--context', `kumulus-${cluster}`, ...args.split(' ')], input === undefined ? {} : { input });
const aws = (cluster: string, service: string, call: string, input: object): Promise<Ran> => {
  const keys = JSON.parse(readFileSync(join(machine.state, cluster, 'aws/credentials.json'), 'utf8'));
  const program = `
    import * as sdk from ${JSON.stringify(import.meta.resolve(`@aws-sdk/client-${service}`))};
    const Client = Object.entries(sdk).find(([name]) => /^[A-Z0-9a-z]+Client$/.test(name) && name !== '__Client')[1];
    const client = new Client({ region: 'us-east-1', endpoint: '${created.get(cluster)?.awsEndpoint}', credentials: ${JSON.stringify({ accessKeyId: keys.accessKeyId, secretAccessKey: keys.secretAccessKey })} });
    try {
      console.log(JSON.stringify(await client.send(new sdk.${call}Command(${JSON.stringify(input)}))));
    } catch (error) {
      console.error(error.name + ': ' + error.message);
      process.exitCode = 1;
    }`;
  return machine.run(process.execPath, ['--input-type=module', '-e', program]);
};

beforeAll(async () => {
  await run('ip', ['netns', 'add', walled]);
  const script = `
set -e
ip link set lo up
ip link add outside type veth peer name wire
for range in 10.0.0.1/16 10.244.0.1/16 10.96.0.1/16; do ip address add $range dev outside; done
ip link set outside up
ip link set wire up
nft -f - <<'END'
table inet wall {
  chain forward {
    type filter hook forward priority 0; policy drop;
  }
}
END
`;
  const made = await machine.run('sh', ['-e'], { input: script });
  if (made.code !== 0) throw new Error(made.err);
}, 60_000);
afterAll(async () => {
  await machine.end();
  await run('ip', ['netns', 'delete', walled]);
}, 120_000);
afterEach((context) => {
  if (context.task.result?.state === 'fail') for (const name of names) console.error(machine.logs(name));
});

describe('two clusters on a walled machine', { timeout: 240_000 }, () => {
  it('are created at once and both serve their page', async () => {
    const args = ['--nodes', '2', '--example', '-o', 'json'];
    const both = await Promise.all(names.map((name) => machine.kumulus(['create', 'cluster', name, ...args])));
    for (const [n, ran] of both.entries()) {
      expect(ran.code, ran.err).toBe(0);
      created.set(names[n] as string, JSON.parse(ran.out));
    }
    const [left, right] = names.map((name) => created.get(name));
    for (const key of ['url', 'server', 'awsEndpoint'] as const) expect(left?.[key]).not.toBe(right?.[key]);
    for (const name of names) {
      const own = JSON.parse(await kubectl(name, 'get pods -l app=hello -o json')).items.map((p: any) => p.metadata.name);
      const page = await fetchPage(created.get(name)?.url as string);
      expect(
        own.some((pod: string) => page.includes(pod)),
        page,
      ).toBe(true);
      expect(JSON.parse(await kubectl(name, 'get nodes -o json')).items).toHaveLength(2);
    }
    expect((await machine.kumulus(['get', 'clusters'])).out).toBe('left\nright\n');
  });

  it('pods reach each other, services and names across instances', async () => {
    const pods = JSON.parse(await kubectl('left', 'get pods -l app=hello -o json')).items;
    const [one, other] = pods;
    expect(one.spec.nodeName).not.toBe(other.spec.nodeName);
    expect(await kubectl('left', `exec ${one.metadata.name} -- wget -qO- http://${other.status.podIP}:8080`)).toContain(other.metadata.name);
    expect(await kubectl('left', `exec ${one.metadata.name} -- wget -qO- http://hello.default.svc.cluster.local`)).toContain('Hello from Kumulus');
  });

  it.each(['OCI layout', 'docker save'])('load image of a %s archive, and a pod that runs it', async (form) => {
    const word = form === 'docker save' ? 'saved' : 'laid-out';
    const source = await busyboxImage([{ path: 'word', content: `${word}\n` }], { repoTags: [`example.com/team/${word}:3`] });
    const archive = join(machine.folder, `${word}.tar`);
    if (form === 'docker save') await writeDockerTar(source, archive);
    else await writeOciTar(source, archive);
    const ran = await machine.kumulus(['load', 'image', archive, '--name', 'left']);
    expect(ran.code, ran.err).toBe(0);
    const loaded = `000000000000.dkr.ecr.us-east-1.amazonaws.com/team/${word}:3`;
    expect(ran.out.trim()).toBe(loaded);
    for (const [n, image] of [loaded, `example.com/team/${word}:3`].entries()) {
      await kubectl('left', `run ${word}-${n} --image=${image} --restart=Never -- cat /word`);
      await kubectl('left', `wait --for=jsonpath={.status.phase}=Succeeded pod/${word}-${n} --timeout=60s`);
      expect(await kubectl('left', `logs ${word}-${n}`)).toBe(`${word}\n`);
    }
  });

  it('load image of something else says so', async () => {
    const ran = await machine.kumulus(['load', 'image', machine.kubeconfig, '--name', 'left']);
    expect(ran.code).toBe(1);
    expect(ran.err).toContain(machine.kubeconfig);
    expect(ran.err).not.toMatch(/^\s+at /m);
  });

  it('user data that fails is seen in get nodes and the console output; what is too long is refused', async () => {
    const subnets = JSON.parse((await aws('right', 'ec2', 'DescribeSubnets', {})).out).Subnets;
    const launch = (userData: string) =>
      aws('right', 'ec2', 'RunInstances', {
        ImageId: 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id',
        InstanceType: 't3.micro',
        SubnetId: subnets[0].SubnetId,
        MinCount: 1,
        MaxCount: 1,
        UserData: Buffer.from(userData).toString('base64'),
        TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'kubernetes.io/cluster/right', Value: 'owned' }] }],
      });
    const tooLong = await launch(`#!/bin/sh\n${'#'.repeat(16_384)}\n`);
    expect(tooLong.err).toContain('InvalidParameterValue: User data is limited to 16384 bytes');
    const ran = await launch('#!/bin/sh\necho "no such package: nginx"\nexit 4\n');
    expect(ran.code, ran.err).toBe(0);
    const id = JSON.parse(ran.out).Instances[0].InstanceId;
    const nodes = await eventually('its end on the console', async () => {
      const shown = await machine.kumulus(['get', 'nodes', '--name', 'right']);
      return shown.err.includes('status 4') && shown;
    });
    expect(nodes.out).toMatch(new RegExp(`NotJoined +${id} +running`));
    expect(nodes.err).toContain(`${id} has not joined: cloud-init: user data exited with status 4`);
    const output = JSON.parse((await aws('right', 'ec2', 'GetConsoleOutput', { InstanceId: id, Latest: true })).out).Output;
    expect(Buffer.from(output, 'base64').toString()).toContain('no such package: nginx');
  });

  it('one is deleted, the other goes on', async () => {
    expect((await machine.kumulus(['delete', 'cluster', 'right'])).code).toBe(0);
    // By its id alone: the folder is the other's too.
    const id = clusterId(join(machine.state, 'right'));
    expect((await hostState(machine, ['right'])).filter((line) => line.includes(id))).toEqual([]);
    await fetchPage(created.get('left')?.url as string);
    expect(await kubectl('left', 'get nodes --no-headers')).toMatch(/ Ready [\s\S]* Ready /);
    expect((await machine.kumulus(['delete', 'cluster', '--all'])).code).toBe(0);
    expect((await hostState(machine, names)).filter((line) => !line.startsWith('sysctl'))).toEqual([]);
    expect(existsSync(join(machine.state, 'left'))).toBe(false);
  });
});

/** As `docker save` writes it: manifest.json, the config, a plain or packed tar a layer. */
async function writeDockerTar(source: Awaited<ReturnType<typeof busyboxImage>>, path: string): Promise<void> {
  const { pack } = await import('tar-stream');
  const { createWriteStream } = await import('node:fs');
  const { pipeline } = await import('node:stream/promises');
  const config = await buffer(source.blob(source.manifest.config.digest));
  const name = `${createHash('sha256').update(config).digest('hex')}.json`;
  const archive = pack();
  const writing = pipeline(archive, createWriteStream(path));
  archive.entry({ name }, config);
  const layers: string[] = [];
  for (const layer of source.manifest.layers) {
    const file = `${layer.digest.slice(7)}/layer.tar`;
    archive.entry({ name: file }, await buffer(source.blob(layer.digest)));
    layers.push(file);
  }
  archive.entry({ name: 'manifest.json' }, JSON.stringify([{ Config: name, RepoTags: source.repoTags, Layers: layers }]));
  archive.finalize();
  await writing;
}
