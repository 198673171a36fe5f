import { AwsError } from '../errors.ts';
import type { Member, Shape, StructureShape } from './shapes.ts';

/** Query parameters as a tree: `Filter.1.Name=x` is a value three levels down. */
interface Parameter {
  value?: string;
  children: Map<string, Parameter>;
  path: string;
}

const maximumDepth = 32;

function tree(parameters: URLSearchParams): Parameter {
  const root: Parameter = { children: new Map(), path: '' };
  for (const [key, value] of parameters) {
    let node = root;
    const parts = key.split('.');
    if (parts.length > maximumDepth) throw new AwsError('InvalidParameterValue', `The parameter ${key.slice(0, 100)} is nested too deeply`);
    for (const part of parts) {
      let child = node.children.get(part);
      if (!child) node.children.set(part, (child = { children: new Map(), path: node.path ? `${node.path}.${part}` : part }));
      node = child;
    }
    node.value = value;
  }
  return root;
}

function malformed(node: Parameter, kind: string): AwsError {
  return new AwsError('InvalidParameterValue', `Value (${node.value ?? ''}) for parameter ${node.path} is invalid. Expected: '${kind}'.`);
}

/** Reads query parameters by a shape, as the protocols ec2Query and awsQuery write them. */
export class QueryDecoder {
  private readonly ec2: boolean;

  constructor(protocol: 'ec2' | 'query') {
    this.ec2 = protocol === 'ec2';
  }

  decode(shape: Shape, parameters: URLSearchParams): unknown {
    if (shape.kind !== 'structure') return {};
    const root = tree(parameters);
    root.children.delete('Action');
    root.children.delete('Version');
    return this.structure(shape, root);
  }

  private name(member: Member): string {
    if (!this.ec2) return member.traits.xmlName ?? member.name;
    if (member.traits.ec2QueryName) return member.traits.ec2QueryName;
    const name = member.traits.xmlName ?? member.name;
    return name[0]!.toUpperCase() + name.slice(1);
  }

  private structure(shape: StructureShape, node: Parameter): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    let unread = node.children.size;
    const known = new Set<string>();
    for (const member of shape.members) {
      const name = this.name(member);
      const child = node.children.get(name);
      if (!child) {
        if (member.required) throw this.missing(node.path ? `${node.path}.${name}` : name);
        continue;
      }
      known.add(name);
      unread--;
      result[member.name] = this.value(member, child);
    }
    // EC2 refuses parameters that it does not know; the other services overlook them.
    if (unread > 0 && this.ec2) {
      for (const child of node.children.values()) {
        if (!known.has(child.path.slice(node.path ? node.path.length + 1 : 0))) {
          throw new AwsError('UnknownParameter', `The parameter ${child.path} is not recognized`);
        }
      }
    }
    return result;
  }

  private missing(path: string): AwsError {
    if (this.ec2) return new AwsError('MissingParameter', `The request must contain the parameter ${path}`);
    const field = path[0]!.toLowerCase() + path.slice(1);
    return new AwsError('ValidationError', `1 validation error detected: Value at '${field}' failed to satisfy constraint: Member must not be null`);
  }

  private value(member: Member, node: Parameter): unknown {
    const shape = member.shape;
    switch (shape.kind) {
      case 'structure':
        return this.structure(shape, node);
      case 'list':
        return this.list(shape.member, node, this.ec2 || member.traits.xmlFlattened !== undefined);
      case 'map':
        return this.map(shape, node, member.traits.xmlFlattened !== undefined);
      default:
        return this.scalar(shape, node);
    }
  }

  private scalar(shape: Shape, node: Parameter): unknown {
    const text = node.value;
    if (text === undefined) throw malformed(node, shape.kind);
    switch (shape.kind) {
      case 'number': {
        const number = Number(text);
        if (text.trim() === '' || !Number.isFinite(number)) throw malformed(node, 'integer');
        return number;
      }
      case 'boolean': {
        const lower = text.toLowerCase();
        if (lower !== 'true' && lower !== 'false') throw malformed(node, 'boolean');
        return lower === 'true';
      }
      case 'blob':
        return new Uint8Array(Buffer.from(text, 'base64'));
      case 'timestamp': {
        const time = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
        if (Number.isNaN(time)) throw malformed(node, 'dateTime');
        return new Date(time);
      }
      default:
        return text;
    }
  }

  private items(node: Parameter): Parameter[] {
    const items: [number, Parameter][] = [];
    for (const [key, child] of node.children) {
      if (!/^[1-9]\d{0,5}$/.test(key)) throw new AwsError('InvalidParameterValue', `The parameter ${child.path} is not recognized`);
      items.push([Number(key), child]);
    }
    return items.sort((a, b) => a[0] - b[0]).map(([, child]) => child);
  }

  private list(member: Member, node: Parameter, flat: boolean): unknown[] {
    const holder = flat ? node : (node.children.get(member.traits.xmlName ?? 'member') ?? node.children.get('member') ?? node);
    return this.items(holder).map((item) => this.value(member, item));
  }

  private map(shape: { key: Member; value: Member }, node: Parameter, flat: boolean): Record<string, unknown> {
    const holder = flat ? node : (node.children.get('entry') ?? node);
    const entries = this.items(holder).map((entry): [string, unknown] => {
      const key = entry.children.get(shape.key.traits.xmlName ?? 'key');
      const value = entry.children.get(shape.value.traits.xmlName ?? 'value');
      if (key?.value === undefined || !value) throw malformed(entry, 'map entry');
      return [key.value, this.value(shape.value, value)];
    });
    return Object.fromEntries(entries);
  }
}
