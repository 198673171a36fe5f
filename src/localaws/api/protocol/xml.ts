import type { Member, Shape } from './shapes.ts';

const special = /[&<>"'\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };

/** Text as XML content. Characters that XML cannot hold are left out. */
export function escapeXml(text: string): string {
  return text.replace(special, (character) => entities[character] ?? '');
}

function scalar(shape: Shape, value: any): string {
  switch (shape.kind) {
    case 'blob':
      return Buffer.from(value).toString('base64');
    case 'timestamp':
      if (shape.format === 'epoch-seconds') return String(value.getTime() / 1000);
      return shape.format === 'http-date' ? value.toUTCString() : value.toISOString();
    default:
      return escapeXml(String(value));
  }
}

function element(name: string, member: Member, value: any): string {
  if (value === undefined || value === null) return '';
  const shape = member.shape;
  switch (shape.kind) {
    case 'structure':
      return `<${name}>${encodeMembers(shape, value)}</${name}>`;
    case 'list': {
      const flat = member.traits.xmlFlattened !== undefined;
      const itemName = flat ? name : (shape.member.traits.xmlName ?? 'member');
      let items = '';
      for (const item of value) items += element(itemName, shape.member, item);
      return flat ? items : `<${name}>${items}</${name}>`;
    }
    case 'map': {
      const flat = member.traits.xmlFlattened !== undefined;
      const entryName = flat ? name : 'entry';
      let entries = '';
      for (const key of Object.keys(value)) {
        const k = element(shape.key.traits.xmlName ?? 'key', shape.key, key);
        entries += `<${entryName}>${k}${element(shape.value.traits.xmlName ?? 'value', shape.value, value[key])}</${entryName}>`;
      }
      return flat ? entries : `<${name}>${entries}</${name}>`;
    }
    default:
      return `<${name}>${scalar(shape, value)}</${name}>`;
  }
}

/** The members of a structure as XML elements, in the schema's order; what the schema does not name is left out. */
export function encodeMembers(shape: Shape, value: any): string {
  if (shape.kind !== 'structure' || !value) return '';
  let text = '';
  for (const member of shape.members) text += element(member.traits.xmlName ?? member.name, member, value[member.name]);
  return text;
}
