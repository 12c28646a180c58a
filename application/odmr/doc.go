package odmr
