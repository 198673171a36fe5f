/**
 * What `kubectl explain` says about the fields that every object has. By the last part of a definition's name, then by field;
 * the empty field is the definition itself.
 */
const metaTypes: Record<string, Record<string, string>> = {
  ObjectMeta: {
    '': 'ObjectMeta is the metadata that every stored object has.',
    annotations: 'Annotations are arbitrary texts by which tools keep what they know of the object. They cannot be selected by.',
    creationTimestamp: 'CreationTimestamp is a timestamp of when the server created the object. Clients cannot set it; it is in RFC 3339 form and in UTC.',
    deletionGracePeriodSeconds: 'Seconds that the object has to end by itself before it is removed. Set together with deletionTimestamp.',
    deletionTimestamp: 'DeletionTimestamp is when the object will be, or should have been, removed. The server sets it when deletion is asked for.',
    finalizers: 'The object stays until this list is empty: each entry names somebody who still has to clean up.',
    generateName: 'Prefix of a name that the server makes unique, where no name is given.',
    generation: 'Counts the changes of the desired state. Set by the server.',
    labels: 'Labels are keys and values by which objects are grouped and selected.',
    managedFields: 'Which manager owns which fields, by version. Kept by the server for server-side apply.',
    name: 'Name is unique among the objects of its kind in its namespace, and cannot be changed.',
    namespace: 'Namespace is the space within which the name is unique. Objects of the cluster itself have none. Cannot be changed.',
    ownerReferences: 'The objects that this one depends on. When all of them are gone it is garbage collected.',
    resourceVersion: 'An opaque value that changes with the object. Sent back in an update, it makes sure that nobody has changed the object meanwhile.',
    selfLink: 'Deprecated: the server no longer sets it.',
    uid: 'UID tells this object from all that had or will have its name. Set by the server.',
  },
  ListMeta: {
    '': 'ListMeta is the metadata of a list.',
    continue: 'A token for the next part of the list, where the list was limited; empty in the last part.',
    remainingItemCount: 'How many items follow this part of the list, where that is known.',
    resourceVersion: 'The version at which the list was taken. A watch may start from it.',
    selfLink: 'Deprecated: the server no longer sets it.',
  },
  OwnerReference: {
    '': 'OwnerReference names an object that the holder depends on: in its own namespace, or of the cluster.',
    apiVersion: 'API version of the owner.',
    blockOwnerDeletion: 'Whether the owner, deleted in the foreground, waits until this object is gone.',
    controller: 'Whether the owner is the one that manages this object.',
    kind: 'Kind of the owner.',
    name: 'Name of the owner.',
    uid: 'UID of the owner.',
  },
  ManagedFieldsEntry: {
    '': 'ManagedFieldsEntry is the set of fields that one manager owns.',
    apiVersion: 'The version of the API in which the fields are named.',
    fieldsType: 'Form of fieldsV1; FieldsV1 is the only one.',
    fieldsV1: 'The set of fields, as a tree.',
    manager: 'Name of whoever manages the fields.',
    operation: 'Apply, or Update for every other write.',
    subresource: 'The subresource by which the object was written, if any.',
    time: 'When the entry last changed.',
  },
};

/** Fields at the top of every object. */
const objectFields: Record<string, string> = {
  apiVersion: 'APIVersion defines the group and version of the API in which this object is written.',
  kind: 'Kind names the type of this object, in CamelCase. It cannot be changed.',
};

const metadata = {
  ObjectMeta: "Standard object's metadata: name, namespace, labels, annotations and what the server keeps about the object.",
  ListMeta: "Standard list's metadata.",
};

/** The description of a definition, or of one of its fields; undefined where there is none. `type` is the last part of the field's type. */
export function descriptionOf(definition: string, field = '', type = ''): string | undefined {
  const own = metaTypes[definition.slice(definition.lastIndexOf('.') + 1)];
  if (own) return own[field];
  if (field === 'metadata') return metadata[type as keyof typeof metadata];
  return objectFields[field];
}
