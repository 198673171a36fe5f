import { timingSafeEqual } from 'node:crypto';
import type { Secret } from '../../api/generated/types.ts';
import type { Clock } from '../../client/clock.ts';
import type { Registry } from '../registry.ts';
import type { UserInfo } from './user.ts';

const form = /^([a-z0-9]{6})\.([a-z0-9]{16})$/;

/** The user of a bootstrap token (secret bootstrap-token-ID in kube-system); undefined where it is none that is valid now. */
export async function authenticateBootstrapToken(registry: Registry, clock: Clock, token: string): Promise<UserInfo | undefined> {
  const match = form.exec(token);
  if (!match) return undefined;
  const [, id = '', secret = ''] = match;
  const entry = await registry.storage('', 'v1', 'secrets').read(`kube-system/bootstrap-token-${id}`);
  const object = entry?.object as unknown as Secret | undefined;
  if (object?.type !== 'bootstrap.kubernetes.io/token' || object.metadata.deletionTimestamp) return undefined;
  const field = (name: string) => Buffer.from(object.data?.[name] ?? '', 'base64').toString('utf8');
  if (field('token-id') !== id || !sameText(field('token-secret'), secret)) return undefined;
  if (field('usage-bootstrap-authentication') !== 'true') return undefined;
  const expiration = field('expiration');
  if (expiration && !(Date.parse(expiration) > clock.now())) return undefined;
  const extra = field('auth-extra-groups')
    .split(',')
    .filter((group) => /^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$/.test(group));
  return { name: `system:bootstrap:${id}`, groups: [...new Set(['system:bootstrappers', ...extra])].sort() };
}

function sameText(a: string, b: string): boolean {
  const x = Buffer.from(a);
  const y = Buffer.from(b);
  return x.length === y.length && timingSafeEqual(x, y);
}
