import { createHash, randomBytes, randomInt, randomUUID } from 'node:crypto';

/** An EC2 id: the prefix, a dash and 17 hex digits (a zero first, as AWS's are). */
export function ec2Id(prefix: string): string {
  return `${prefix}-0${randomBytes(8).toString('hex')}`;
}

/** 17 hex digits of something with a fixed name, so that it is the same at every start. */
export function stableEc2Id(prefix: string, name: string): string {
  return `${prefix}-0${createHash('sha256').update(name).digest('hex').slice(0, 16)}`;
}

const idLetters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** An IAM unique id such as AROA…: the prefix and 17 letters and digits; 16 in those of access keys (AKIA, ASIA). */
export function iamId(prefix: string): string {
  let id = prefix;
  const length = prefix === 'AKIA' || prefix === 'ASIA' ? 16 : 17;
  for (let i = 0; i < length; i++) id += idLetters[randomInt(idLetters.length)];
  return id;
}

/** 16 hex digits, as the ids of load balancers, target groups and listeners are. */
export function elbId(): string {
  return randomBytes(8).toString('hex');
}

export function secretKey(): string {
  return randomBytes(30).toString('base64');
}

export function requestId(): string {
  return randomUUID();
}
