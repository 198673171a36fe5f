import { expect, test } from 'vitest';
import type { CloudState } from '../contract.ts';
import { interfacesOf } from './interfaces.ts';

const eni = { NetworkInterfaceId: 'eni-0123456789abcdef0', VpcId: 'vpc-1', SubnetId: 'subnet-1', PrivateIpAddress: '10.0.0.4', SourceDestCheck: true };
const attached = { ...eni, Attachment: { InstanceId: 'i-1', DeviceIndex: 0 } };

const checkOf = (state: object) => interfacesOf({ networkInterfaces: [], instances: [], ...state } as unknown as CloudState)[0]?.sourceDestCheck;

test('the source/destination check is off where the interface or, for its first one, the instance says so', () => {
  const instance = { InstanceId: 'i-1', NetworkInterfaces: [eni] };
  expect(checkOf({ networkInterfaces: [attached], instances: [{ ...instance, SourceDestCheck: true }] })).toBe(true);
  expect(checkOf({ networkInterfaces: [{ ...attached, SourceDestCheck: false }], instances: [{ ...instance, SourceDestCheck: true }] })).toBe(false);
  // moto and LocalStack note ModifyInstanceAttribute at the instance alone.
  expect(checkOf({ networkInterfaces: [attached], instances: [{ ...instance, SourceDestCheck: false }] })).toBe(false);
  const second = { ...eni, Attachment: { InstanceId: 'i-1', DeviceIndex: 1 } };
  expect(checkOf({ networkInterfaces: [second], instances: [{ ...instance, SourceDestCheck: false }] })).toBe(true);
});
