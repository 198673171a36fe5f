import { expect, test } from 'vitest';
import { services } from './services.ts';

const clients: Record<string, () => Promise<Record<string, unknown>>> = {
  ec2: () => import('@aws-sdk/client-ec2') as never,
  elasticloadbalancing: () => import('@aws-sdk/client-elastic-load-balancing-v2') as never,
  sts: () => import('@aws-sdk/client-sts') as never,
  iam: () => import('@aws-sdk/client-iam') as never,
  ssm: () => import('@aws-sdk/client-ssm') as never,
  ecr: () => import('@aws-sdk/client-ecr') as never,
};

test.each(services)('$name knows every operation that AWS has, and has the shapes of its own (else: scripts/generate-aws-schemas.ts)', async (service) => {
  await service.load();
  const sdk = await clients[service.name]!();
  const all = Object.keys(sdk).filter((key) => key.endsWith('$') && Array.isArray(sdk[key]) && sdk[key][0] === 9);
  expect(all.length).toBeGreaterThan(5);
  for (const name of all.map((key) => key.slice(0, -1))) {
    const own = name in service.operations;
    expect([name, service.model(name) !== undefined, service.lacks(name)]).toEqual([name, own, !own]);
  }
  expect(service.model('NoSuchThing')).toBeUndefined();
  expect(service.lacks('NoSuchThing')).toBe(false);
});
