import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { AttachVolumeCommand, DescribeVolumesCommand } from '@aws-sdk/client-ec2';
import { type AwsClients, hasCode, waitUntil } from '../aws/clients.ts';

const device = '/dev/sdf';

/** What the kernel may call a volume: by its id on Nitro and in the embedded AWS, by the asked name on Xen. */
const paths = (volumeId: string): string[] => [
  `/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volumeId.replace('-', '')}`,
  '/dev/xvdf',
  device,
];

function run(program: string, ...args: string[]): string {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  if (result.error) throw result.error;
  if (result.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${result.stderr.trim() || `exit code ${result.status}`}`);
  return result.stdout.trim();
}

const isMounted = (directory: string): boolean =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === directory);

/**
 * Attaches a volume to this instance, makes a file system where it has none, and mounts it. Waits while an instance that ends still
 * holds it. A volume that has grown gets a larger file system.
 */
export async function mountDataVolume(
  clients: AwsClients,
  volumeId: string,
  instanceId: string,
  directory: string,
  signal: AbortSignal,
): Promise<void> {
  const ec2 = await clients.ec2();
  if (!isMounted(directory)) {
    await waitUntil(
      `volume ${volumeId} to be attached`,
      async () => {
        const { Volumes } = await ec2.send(new DescribeVolumesCommand({ VolumeIds: [volumeId] }), { abortSignal: signal });
        const attachment = Volumes?.[0]?.Attachments?.find((a) => a.InstanceId === instanceId);
        if (attachment?.State === 'attached') return true;
        if (attachment) return undefined;
        await ec2
          .send(new AttachVolumeCommand({ VolumeId: volumeId, InstanceId: instanceId, Device: device }), { abortSignal: signal })
          .catch((error) => {
            if (!hasCode(error, 'VolumeInUse', 'IncorrectState')) throw error;
          });
        return undefined;
      },
      { timeoutMs: 600_000, signal },
    );
    // The kernel tells of a new device by udev; asking again needs nothing of udev.
    const found = await waitUntil(`the device of volume ${volumeId}`, async () => paths(volumeId).find(existsSync), { timeoutMs: 120_000, signal });
    const type = spawnSync('blkid', ['-p', '-o', 'value', '-s', 'TYPE', found], { encoding: 'utf8' }).stdout?.trim();
    if (!type) run('mkfs.xfs', '-q', found);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    run('mount', '-o', 'noatime', found, directory);
  }
  run('xfs_growfs', directory);
}
