import type { Operations } from './cloud.ts';
import { ec2Operations } from './ec2/operations.ts';
import { ecrOperations } from './ecr/operations.ts';
import { elbOperations } from './elbv2/operations.ts';
import { iamOperations } from './iam/operations.ts';
import { type Shape, shapeOf } from './protocol/shapes.ts';
import { ssmOperations } from './ssm/operations.ts';
import { stsOperations } from './sts/operations.ts';

export interface Model {
  input: Shape;
  output: Shape;
}

/** A service: how it is spoken to, and what it does. */
export interface Service {
  /** The name in a signature's scope. */
  name: string;
  protocol: 'ec2' | 'query' | 'json';
  xmlNamespace: string;
  /** X-Amz-Target without the operation; of JSON services only. */
  target?: string;
  operations: Operations;
  /** Loads the SDK's schemas, once. */
  load(): Promise<void>;
  /** The shapes of an operation, once loaded; undefined when there is none of that name here. */
  model(operation: string): Model | undefined;
  /** Whether AWS has an operation of that name that is not here. */
  lacks(operation: string): boolean;
}

/** A file of generated/. */
type Schemas = { others: string } & Record<string, unknown>;

function service(source: () => Promise<Schemas>, fields: Omit<Service, 'load' | 'model' | 'lacks'>): Service {
  let schemas: Schemas | undefined;
  const models = new Map<string, Model>();
  let loading: Promise<void> | undefined;
  const load = () =>
    (loading ??= source().then((loaded) => {
      schemas = loaded;
    }));
  return {
    ...fields,
    load,
    model(operation) {
      let model = models.get(operation);
      if (!model) {
        const schema = schemas?.[`${operation}$`];
        if (!Array.isArray(schema) || schema[0] !== 9) return undefined;
        models.set(operation, (model = { input: shapeOf(schema[4]), output: shapeOf(schema[5]) }));
      }
      return model;
    },
    lacks: (operation) => schemas?.others.split(' ').includes(operation) ?? false,
  };
}

export const services: Service[] = [
  service(() => import('./generated/ec2.ts'), {
    name: 'ec2',
    protocol: 'ec2',
    xmlNamespace: 'http://ec2.amazonaws.com/doc/2016-11-15/',
    operations: ec2Operations,
  }),
  service(() => import('./generated/elasticloadbalancing.ts'), {
    name: 'elasticloadbalancing',
    protocol: 'query',
    xmlNamespace: 'http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/',
    operations: elbOperations,
  }),
  service(() => import('./generated/sts.ts'), {
    name: 'sts',
    protocol: 'query',
    xmlNamespace: 'https://sts.amazonaws.com/doc/2011-06-15/',
    operations: stsOperations,
  }),
  service(() => import('./generated/iam.ts'), {
    name: 'iam',
    protocol: 'query',
    xmlNamespace: 'https://iam.amazonaws.com/doc/2010-05-08/',
    operations: iamOperations,
  }),
  service(() => import('./generated/ssm.ts'), { name: 'ssm', protocol: 'json', xmlNamespace: '', target: 'AmazonSSM', operations: ssmOperations }),
  service(() => import('./generated/ecr.ts'), {
    name: 'ecr',
    protocol: 'json',
    xmlNamespace: '',
    target: 'AmazonEC2ContainerRegistry_V20150921',
    operations: ecrOperations,
  }),
];
