import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { RuntimeError } from '../cri.ts';

/** Where specifications of devices lie; one in a later folder goes before one in an earlier. */
export const cdiDirectories = ['/etc/cdi', '/var/run/cdi'];

interface ContainerEdits {
  env?: string[];
  deviceNodes?: {
    path: string;
    hostPath?: string;
    type?: string;
    major?: number;
    minor?: number;
    fileMode?: number;
    permissions?: string;
    uid?: number;
    gid?: number;
  }[];
  mounts?: { hostPath: string; containerPath: string; type?: string; options?: string[] }[];
  hooks?: { hookName: string; path: string; args?: string[]; env?: string[]; timeout?: number }[];
  additionalGids?: number[];
}
interface CdiSpec {
  kind?: string;
  containerEdits?: ContainerEdits;
  devices?: { name: string; containerEdits?: ContainerEdits }[];
}

async function readSpecs(directories: readonly string[]): Promise<CdiSpec[]> {
  const specs: CdiSpec[] = [];
  for (const directory of [...directories].reverse()) {
    for (const name of (await readdir(directory).catch(() => [] as string[])).sort()) {
      if (!/\.(json|ya?ml)$/.test(name)) continue;
      const text = await readFile(join(directory, name), 'utf8').catch(() => '');
      try {
        const spec = parse(text) as CdiSpec | null;
        if (spec?.kind) specs.push(spec);
      } catch {
        // A file that its driver is just writing, or a broken one: its devices are not there.
      }
    }
  }
  return specs;
}

/** Gives a container's OCI configuration the devices named VENDOR/CLASS=NAME, as their CDI specifications say. Throws where one is unknown. */
export async function applyCdi(config: any, names: readonly string[], directories: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const specs = await readSpecs(directories);
  const whole = new Set<CdiSpec>();
  const unknown: string[] = [];
  const edits: ContainerEdits[] = [];
  for (const name of names) {
    const at = name.indexOf('=');
    const spec = specs.find((one) => one.kind === name.slice(0, at) && one.devices?.some((d) => d.name === name.slice(at + 1)));
    const device = spec?.devices?.find((d) => d.name === name.slice(at + 1));
    if (!spec || !device) {
      unknown.push(name);
      continue;
    }
    if (!whole.has(spec) && spec.containerEdits) edits.push(spec.containerEdits);
    whole.add(spec);
    if (device.containerEdits) edits.push(device.containerEdits);
  }
  if (unknown.length) throw new RuntimeError('InvalidArgument', `CDI device injection failed: unresolvable CDI devices ${unknown.join(', ')}`);
  for (const edit of edits) await apply(config, edit);
}

async function apply(config: any, { env, deviceNodes, mounts, hooks, additionalGids }: ContainerEdits): Promise<void> {
  for (const line of env ?? []) {
    const prefix = `${line.split('=')[0]}=`;
    config.process.env = [...config.process.env.filter((one: string) => !one.startsWith(prefix)), line];
  }
  for (const node of deviceNodes ?? []) {
    const found = await stat(node.hostPath ?? node.path).catch(() => undefined);
    const type = node.type ?? (found?.isBlockDevice() ? 'b' : 'c');
    const major = node.major ?? Math.floor((found?.rdev ?? 0) / 256) % 4096;
    const minor = node.minor ?? ((found?.rdev ?? 0) % 256) + Math.floor((found?.rdev ?? 0) / 2 ** 20) * 256;
    const fileMode = node.fileMode ?? (found ? found.mode & 0o777 : 0o666);
    config.linux.devices = [
      ...config.linux.devices.filter((one: { path: string }) => one.path !== node.path),
      { path: node.path, type, major, minor, fileMode, uid: node.uid ?? config.process.user.uid, gid: node.gid ?? config.process.user.gid },
    ];
    config.linux.resources.devices.push({ allow: true, type, major, minor, access: node.permissions ?? 'rwm' });
  }
  for (const mount of mounts ?? [])
    config.mounts.push({
      destination: mount.containerPath,
      type: mount.type ?? 'bind',
      source: mount.hostPath,
      options: mount.options ?? ['rbind', 'ro'],
    });
  for (const { hookName, ...hook } of hooks ?? []) {
    config.hooks ??= {};
    config.hooks[hookName] = [...(config.hooks[hookName] ?? []), hook];
  }
  for (const gid of additionalGids ?? [])
    if (gid !== 0 && !config.process.user.additionalGids.includes(gid)) config.process.user.additionalGids.push(gid);
}
