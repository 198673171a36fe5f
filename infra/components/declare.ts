import * as pulumi from '@pulumi/pulumi';
import { type Declaration, isRef } from '../../src/aws/topology.ts';
import { classes } from '../resources.ts';

/** Resources by the ids of their declarations. */
export type Declared = ReadonlyMap<string, pulumi.CustomResource>;

const camel = (name: string) => name.charAt(0).toLowerCase() + name.slice(1);

/** The properties in Pulumi's spelling, with references as outputs of the resources they name; outputs pass as they are. */
function resolve(value: unknown, known: Declared): unknown {
  if (pulumi.Output.isInstance(value)) return value;
  if (isRef(value)) {
    const resource = known.get(value.ref);
    if (!resource) throw new Error(`${value.ref} is not declared`);
    return value.attribute ? (resource as unknown as Record<string, unknown>)[camel(value.attribute)] : resource.id;
  }
  if (Array.isArray(value)) return value.map((one) => resolve(one, known));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [camel(key), resolve(one, known)]));
}

export interface DeclareOptions {
  cluster: string;
  parent: pulumi.Resource;
  /** What declarations may refer to beside each other. */
  known?: Declared;
  /** On everything that is made here. */
  tags?: Record<string, string>;
  /** What has to be there before a declaration, beyond what it refers to. */
  after?: (declaration: Declaration) => pulumi.Resource[];
}

/** Makes resources of declarations: the same list from which `create cluster` works. Resolves references in order. */
export function declare(declarations: Declaration[], o: DeclareOptions): Declared {
  const known = new Map(o.known ?? []);
  const made = new Map<string, pulumi.CustomResource>();
  for (const declaration of declarations) {
    const args = {
      cluster: o.cluster,
      logicalId: declaration.id,
      tags: { ...o.tags, ...declaration.tags },
      ...(resolve(declaration.properties, known) as object),
    };
    const before = (declaration.after ?? []).map((id) => {
      const resource = known.get(id);
      if (!resource) throw new Error(`${declaration.id} comes after ${id}, which is not declared`);
      return resource;
    });
    const dependsOn = [...before, ...(o.after?.(declaration) ?? [])];
    const type = classes[declaration.kind] as new (name: string, args: object, opts: pulumi.CustomResourceOptions) => pulumi.CustomResource;
    const resource = new type(`${o.cluster}-${declaration.id}`, args, { parent: o.parent, ...(dependsOn.length ? { dependsOn } : {}) });
    known.set(declaration.id, resource);
    made.set(declaration.id, resource);
  }
  return made;
}

/** The resource with this id, of the class that its kind has. */
export function pick<T extends pulumi.CustomResource>(declared: Declared, id: string, type: abstract new (...args: never[]) => T): T {
  const resource = declared.get(id);
  if (!(resource instanceof type)) throw new Error(`${id} is no ${type.name}`);
  return resource;
}
