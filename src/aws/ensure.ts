import { type Existing, findOrCreate, type HandlerContext, type ResourceHandler } from './handlers/handler.ts';
import { instance } from './handlers/instance.ts';
import { launchTemplate } from './handlers/launch-template.ts';
import { listener } from './handlers/listener.ts';
import { loadBalancer } from './handlers/load-balancer.ts';
import { internetGateway, subnet, vpc } from './handlers/network.ts';
import { networkInterface } from './handlers/network-interface.ts';
import { routeTable } from './handlers/route-table.ts';
import { securityGroup } from './handlers/security-group.ts';
import { targetGroup } from './handlers/target-group.ts';
import { volume } from './handlers/volume.ts';
import { ownershipTags } from './tags.ts';
import { type Declaration, isRef, type ResourceKind } from './topology.ts';

export const handlers: Record<ResourceKind, ResourceHandler<any>> = {
  'ec2:Vpc': vpc,
  'ec2:InternetGateway': internetGateway,
  'ec2:Subnet': subnet,
  'ec2:RouteTable': routeTable,
  'ec2:SecurityGroup': securityGroup,
  'ec2:NetworkInterface': networkInterface,
  'ec2:LaunchTemplate': launchTemplate,
  'ec2:Instance': instance,
  'ec2:Volume': volume,
  'elbv2:LoadBalancer': loadBalancer,
  'elbv2:TargetGroup': targetGroup,
  'elbv2:Listener': listener,
  // The SDK's clients for these are large, and many clusters have neither.
  'iam:InstanceProfile': loadedLater(async () => (await import('./handlers/iam.ts')).instanceProfile),
  'ssm:Parameter': loadedLater(async () => (await import('./handlers/parameter.ts')).parameter),
};

function loadedLater<P>(load: () => Promise<ResourceHandler<P>>): ResourceHandler<P> {
  return {
    find: async (...words) => (await load()).find(...words),
    create: async (...words) => (await load()).create(...words),
    read: async (...words) => (await load()).read(...words),
    repair: async (...words) => (await load()).repair?.(...words),
    settle: async (...words) => (await load()).settle?.(...words),
    tag: async (...words) => (await load()).tag(...words),
    remove: async (...words) => (await load()).remove(...words),
  };
}

export type Ensured = Map<string, Existing>;

/**
 * Finds or creates everything declared, each as soon as what it refers to exists. Repeating it changes nothing that is
 * there. `known` holds what earlier calls ensured, for references into it.
 */
export async function ensure(context: HandlerContext, declarations: Declaration[], known: Ensured = new Map()): Promise<Ensured> {
  const running = new Map<string, Promise<Existing>>();
  for (const [id, found] of known) running.set(id, Promise.resolve(found));
  // Declarations come with what they refer to before them, so one pass in order finds every promise.
  for (const declaration of declarations) {
    const needed = [...references(declaration.properties), ...(declaration.after ?? [])];
    for (const id of needed) {
      if (!running.has(id)) throw new Error(`${declaration.id} refers to ${id}, which is not declared before it`);
    }
    const started = (async () => {
      await Promise.all(needed.map((id) => running.get(id)));
      context.signal?.throwIfAborted();
      return ensureOne(context, declaration, await resolve(declaration.properties, running));
    })();
    started.catch(() => {});
    running.set(declaration.id, started);
  }
  const result: Ensured = new Map(known);
  const failures: unknown[] = [];
  for (const [id, promise] of running) {
    try {
      result.set(id, await promise);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length) throw failures[0];
  return result;
}

async function ensureOne(context: HandlerContext, declaration: Declaration, properties: Record<string, unknown>): Promise<Existing> {
  try {
    const tags = ownershipTags(context.cluster, declaration.id, declaration.tags);
    return await findOrCreate(handlers[declaration.kind], context, { logicalId: declaration.id, properties, tags });
  } catch (error) {
    throw new Error(`${declaration.kind} ${declaration.id}: ${(error as Error).message}`, { cause: error });
  }
}

/** Deletes everything declared that exists, last declared first. */
export async function remove(context: HandlerContext, declarations: Declaration[]): Promise<void> {
  const found: Ensured = new Map();
  const tasks: { declaration: Declaration; existing: Existing; properties: Record<string, unknown> }[] = [];
  for (const declaration of declarations) {
    const handler = handlers[declaration.kind];
    const running = new Map([...found].map(([id, e]) => [id, Promise.resolve(e)] as const));
    const properties = await resolve(declaration.properties, running);
    const existing = await handler.find(context, declaration.id, properties);
    if (!existing) continue;
    found.set(declaration.id, existing);
    tasks.push({ declaration, existing, properties });
  }
  for (const { declaration, existing, properties } of tasks.reverse()) {
    context.signal?.throwIfAborted();
    await handlers[declaration.kind].remove(context, existing, properties);
  }
}

function references(value: unknown): string[] {
  if (isRef(value)) return [value.ref];
  if (Array.isArray(value)) return value.flatMap(references);
  if (value && typeof value === 'object') return Object.values(value).flatMap(references);
  return [];
}

async function resolve(value: any, running: Map<string, Promise<Existing>>): Promise<any> {
  if (isRef(value)) {
    const target = await running.get(value.ref);
    return target && (value.attribute ? target.attributes[value.attribute] : target.id);
  }
  if (Array.isArray(value)) return Promise.all(value.map((v) => resolve(v, running)));
  if (value && typeof value === 'object') {
    return Object.fromEntries(await Promise.all(Object.entries(value).map(async ([k, v]) => [k, await resolve(v, running)] as const)));
  }
  return value;
}
