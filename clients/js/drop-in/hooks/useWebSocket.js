// Connects while a user is logged in, and dispatches the events of analyses to the store.
import { useCallback, useEffect } from 'react';
import { useDispatch, useSelector } from 'react-redux';
import webSocketService from '../services/websocket.service';
import { WEBSOCKET_EVENTS } from '../constants/websocket';

const ACTIONS = [
  [WEBSOCKET_EVENTS.ANALYSIS_STARTED, 'ANALYSIS_STARTED'],
  [WEBSOCKET_EVENTS.ANALYSIS_PROGRESS, 'ANALYSIS_PROGRESS'],
  [WEBSOCKET_EVENTS.ANALYSIS_COMPLETED, 'ANALYSIS_COMPLETED'],
  [WEBSOCKET_EVENTS.ANALYSIS_FAILED, 'ANALYSIS_FAILED'],
];

export const useWebSocket = () => {
  const dispatch = useDispatch();
  const token = useSelector((state) => state.auth.token);
  const isConnected = webSocketService.isConnected;

  const connect = useCallback(() => {
    if (token) webSocketService.connect(token);
  }, [token]);
  const disconnect = useCallback(() => webSocketService.disconnect(), []);

  useEffect(() => {
    const listeners = ACTIONS.map(([event, type]) => [event, (payload) => dispatch({ type, payload })]);
    for (const [event, listener] of listeners) webSocketService.socket.on(event, listener);
    return () => {
      for (const [event, listener] of listeners) webSocketService.socket.off(event, listener);
    };
  }, [dispatch]);

  useEffect(() => {
    connect();
    return disconnect;
  }, [connect, disconnect]);

  return { isConnected, connect, disconnect };
};
