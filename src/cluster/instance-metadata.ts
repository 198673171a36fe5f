/** Instance metadata, version 2 (IMDSv2): what an EC2 instance knows of itself. */
const base = 'http://169.254.169.254';

export interface InstanceFacts {
  instanceId: string;
  zone: string;
  region: string;
  privateIp: string;
  /** The private DNS name, which is the node's name, as on EKS. */
  hostname: string;
}

export async function readInstanceFacts(signal?: AbortSignal): Promise<InstanceFacts> {
  const limit = () => AbortSignal.any([AbortSignal.timeout(5000), ...(signal ? [signal] : [])]);
  const tokenAnswer = await fetch(`${base}/latest/api/token`, {
    method: 'PUT',
    headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '300' },
    signal: limit(),
  });
  if (!tokenAnswer.ok) throw new Error(`instance metadata refuses a token: ${tokenAnswer.status}`);
  const token = await tokenAnswer.text();
  const get = async (path: string) => {
    const answer = await fetch(`${base}/latest/meta-data/${path}`, { headers: { 'x-aws-ec2-metadata-token': token }, signal: limit() });
    if (!answer.ok) throw new Error(`instance metadata ${path}: ${answer.status}`);
    return (await answer.text()).trim();
  };
  const [instanceId, zone, privateIp, hostname] = await Promise.all([
    get('instance-id'),
    get('placement/availability-zone'),
    get('local-ipv4'),
    get('local-hostname'),
  ]);
  return { instanceId, zone, region: zone.replace(/[a-z]$/, ''), privateIp, hostname };
}
